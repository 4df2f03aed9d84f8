"""`call_soon` and its handles: order, contexts, cancellation, what a handle shows."""

import asyncio
import contextvars
import gc
import sys
import weakref
from typing import Any

from recorder import next_turns

Loop = asyncio.AbstractEventLoop


async def test_callbacks_run_in_order_with_their_arguments(loop: Loop) -> None:
    calls: list[Any] = []
    loop.call_soon(calls.append, 1)
    loop.call_soon(lambda *args: calls.append(args))
    loop.call_soon(lambda *args: calls.append(args), 1, 2, 3, 4, 5)
    loop.call_soon(calls.append, 2)
    await next_turns(1)
    assert calls == [1, (), (1, 2, 3, 4, 5), 2]


async def test_what_a_callback_schedules_waits_for_the_next_iteration(loop: Loop) -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")
        loop.call_soon(calls.append, "scheduled by first")

    loop.call_soon(first)
    loop.call_soon(calls.append, "second")
    await next_turns(1)
    assert calls == ["first", "second"]
    await next_turns(1)
    assert calls == ["first", "second", "scheduled by first"]


async def test_handle(loop: Loop) -> None:
    calls: list[int] = []
    handle = loop.call_soon(calls.append, 1)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert handle.cancelled() is False
    assert handle.cancel() is None  # type: ignore[func-returns-value]
    assert handle.cancelled() is True
    handle.cancel()
    await next_turns(1)
    assert calls == []


async def test_a_callback_cancels_a_later_one_of_the_same_iteration(loop: Loop) -> None:
    calls: list[str] = []
    handles: list[asyncio.Handle] = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(calls.append, "cancelled"))
    loop.call_soon(calls.append, "kept")
    await next_turns(1)
    assert calls == ["kept"]


async def test_cancel_after_the_run_is_harmless(loop: Loop) -> None:
    calls: list[int] = []
    handle = loop.call_soon(calls.append, 1)
    await next_turns(1)
    handle.cancel()
    assert calls == [1]


async def test_contexts(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    def look() -> None:
        seen.append(variable.get())

    given = contextvars.copy_context()
    given.run(variable.set, "given")
    variable.set("now")
    plain = loop.call_soon(look)
    handle = loop.call_soon(look, context=given)
    loop.call_later(0, look, context=given)
    loop.call_soon_threadsafe(look, context=given)
    variable.set("later")
    if sys.version_info >= (3, 12):  # get_context() is new in Python 3.12
        assert handle.get_context() is given
        assert plain.get_context()[variable] == "now"
    await asyncio.sleep(0.01)
    assert sorted(seen) == ["given", "given", "given", "now"]
    assert seen[:2] == ["now", "given"]


async def test_a_callback_changes_only_its_own_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    def change() -> None:
        variable.set("changed")

    loop.call_soon(change)
    loop.call_soon(lambda: seen.append(variable.get()))
    await next_turns(1)
    assert (seen, variable.get()) == (["none"], "none")


async def test_a_run_or_cancelled_handle_lets_its_arguments_go(loop: Loop) -> None:
    class Thing:
        pass

    run, cancelled = Thing(), Thing()
    alive = [weakref.ref(run), weakref.ref(cancelled)]
    loop.call_soon(lambda thing: None, run)
    handle = loop.call_soon(lambda thing: None, cancelled)
    handle.cancel()
    del run, cancelled
    await next_turns(2)
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


async def test_weakref_and_repr(loop: Loop) -> None:
    def named() -> None: ...

    handle = loop.call_soon(named)
    assert weakref.ref(handle)() is handle
    assert "named" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)
    await next_turns(1)


async def test_any_callable(loop: Loop) -> None:
    calls: list[str] = []

    class Callable:
        def __call__(self, word: str) -> None:
            calls.append(word)

        def method(self, word: str) -> None:
            calls.append(f"method {word}")

    import functools

    loop.call_soon(Callable(), "object")
    loop.call_soon(Callable().method, "bound")
    loop.call_soon(functools.partial(calls.append, "partial"))
    loop.call_soon(calls.append, "builtin")
    await next_turns(1)
    assert calls == ["object", "method bound", "partial", "builtin"]


async def test_a_failing_callback_is_reported_and_stops_nothing(
    loop: Loop, errors: list[dict[str, Any]]
) -> None:
    calls: list[int] = []
    handle = loop.call_soon(lambda: 1 // 0)
    loop.call_soon(calls.append, 1)
    await next_turns(1)
    assert calls == [1]
    context = errors.pop()
    assert context["message"].startswith("Exception in callback ")
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["handle"] is handle
