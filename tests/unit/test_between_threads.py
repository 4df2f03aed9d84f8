"""`wrap_future`, `run_coroutine_threadsafe` and `to_thread`: asyncio's and ours, on both loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import inspect
import threading
import weakref
from collections.abc import Callable
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

both = pytest.mark.parametrize("api", [asyncio, oxloop], ids=["asyncio.", "oxloop."])


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_they_are_ours() -> None:
    for name in ("wrap_future", "run_coroutine_threadsafe", "to_thread"):
        assert getattr(oxloop, name).__module__ == "oxloop._oxloop"
        module = {"wrap_future": "futures", "to_thread": "threads"}.get(name, "tasks")
        assert getattr(getattr(oxloop, module), name) is getattr(oxloop, name)


@both
async def test_a_wrapped_future_gets_what_a_thread_gives(loop: Loop, api: Any) -> None:
    for outcome in ("result", ValueError("no"), asyncio.CancelledError()):
        source: concurrent.futures.Future[Any] = concurrent.futures.Future()
        wrapped = api.wrap_future(source)
        assert api.wrap_future(wrapped) is wrapped
        assert wrapped.get_loop() is loop

        def finish(source: Any = source, outcome: Any = outcome) -> None:
            if isinstance(outcome, asyncio.CancelledError):
                source.cancel()
            elif isinstance(outcome, Exception):
                source.set_exception(outcome)
            else:
                source.set_result(outcome)

        thread = in_thread(finish)
        await asyncio.wait([wrapped])
        thread.join()
        if isinstance(outcome, asyncio.CancelledError):
            assert wrapped.cancelled()
        elif isinstance(outcome, Exception):
            assert wrapped.exception() is outcome
        else:
            assert wrapped.result() == outcome


@both
async def test_cancelling_the_wrapping_future_cancels_the_other(loop: Loop, api: Any) -> None:
    source: concurrent.futures.Future[None] = concurrent.futures.Future()
    wrapped = api.wrap_future(source, loop=loop)
    wrapped.cancel()
    await asyncio.sleep(0)
    assert source.cancelled()


@both
async def test_classes_of_concurrent_futures_become_asyncios(loop: Loop, api: Any) -> None:
    classes = {
        concurrent.futures.CancelledError: asyncio.CancelledError,
        concurrent.futures.InvalidStateError: asyncio.InvalidStateError,
    }
    for concurrent_class, own_class in classes.items():
        source: concurrent.futures.Future[None] = concurrent.futures.Future()
        wrapped = api.wrap_future(source)
        source.set_exception(concurrent_class("text", 1))
        with pytest.raises(own_class) as caught:
            await wrapped
        assert type(caught.value) is own_class and caught.value.args == ("text", 1)


@both
async def test_what_is_no_future_is_refused(loop: Loop, api: Any) -> None:
    with pytest.raises(AssertionError, match="concurrent.futures.Future is expected, got 5"):
        api.wrap_future(5)
    with pytest.raises(TypeError, match="A coroutine object is required"):
        api.run_coroutine_threadsafe(5, loop)


@both
def test_one_that_comes_after_the_end_of_the_loop(
    api: Any, loop_factory: Callable[[], Loop]
) -> None:
    source: concurrent.futures.Future[str] = concurrent.futures.Future()
    loop = loop_factory()
    wrapped = api.wrap_future(source, loop=loop)
    loop.close()
    source.set_result("too late")
    assert not wrapped.done()


@both
def test_a_coroutine_from_another_thread(api: Any, loop_factory: Callable[[], Loop]) -> None:
    loop = loop_factory()
    thread = in_thread(loop.run_forever)
    try:

        async def add(one: int, two: int) -> int:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is loop
            return one + two

        assert api.run_coroutine_threadsafe(add(1, 2), loop).result(20) == 3

        async def fail() -> None:
            raise KeyError("within")

        with pytest.raises(KeyError, match="within"):
            api.run_coroutine_threadsafe(fail(), loop).result(20)

        began, ended = threading.Event(), threading.Event()

        async def wait() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        waiting = api.run_coroutine_threadsafe(wait(), loop)
        assert began.wait(20)
        assert waiting.cancel()
        assert ended.wait(20)

        def refuse(_: Any, coro: Any, **__: Any) -> Any:
            coro.close()
            raise LookupError("no tasks today")

        loop.set_exception_handler(lambda _, report: None)
        loop.set_task_factory(refuse)
        with pytest.raises(LookupError, match="no tasks today"):
            api.run_coroutine_threadsafe(add(1, 2), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@both
async def test_a_function_in_a_thread(loop: Loop, api: Any) -> None:
    variable.set("the caller's")
    own = threading.get_ident()

    def work(first: int, *, second: int) -> tuple[Any, ...]:
        seen = variable.get()
        variable.set("the thread's")
        return first, second, seen, threading.get_ident() == own

    coroutine = api.to_thread(work, 1, second=2)
    assert inspect.iscoroutine(coroutine) or asyncio.iscoroutine(coroutine)
    assert await coroutine == (1, 2, "the caller's", False)
    assert variable.get() == "the caller's"

    def fail() -> None:
        raise TimeoutError("slow", 1)

    with pytest.raises(TimeoutError) as caught:
        await api.to_thread(fail)
    assert caught.value.args == ("slow", 1)
    # A keyword that is named as a parameter is the function's.
    assert await api.to_thread(dict, func=1) == {"func": 1}


@both
async def test_what_is_kept_keeps_nothing_else(loop: Loop, api: Any) -> None:
    """Neither future keeps the other when both are done."""
    gc.disable()
    try:
        source: concurrent.futures.Future[int] = concurrent.futures.Future()
        wrapped = api.wrap_future(source)
        source.set_running_or_notify_cancel()
        source.set_result(1)
        result = await wrapped
        assert result == 1
        gone = weakref.ref(wrapped)
        del wrapped
        # The job that woke this task has it until this step ends.
        await asyncio.sleep(0)
        assert gone() is None or api is asyncio
    finally:
        gc.enable()


def test_a_link_that_is_called_too_early_does_not_wait(loop_factory: Callable[[], Loop]) -> None:
    """It is a callback of a future that is done; called by hand before, it raises as asyncio's."""
    loop = loop_factory()
    source: concurrent.futures.Future[None] = concurrent.futures.Future()
    wrapped = oxloop.wrap_future(source, loop=loop)
    seen: list[Any] = []
    loop.set_exception_handler(lambda _, report: seen.append(report["exception"]))
    (follow,) = source._done_callbacks  # type: ignore[attr-defined]
    follow(source)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [type(error) for error in seen] == [AssertionError]
    assert not wrapped.done()
    loop.close()
