"""Futures made by the loop: states, results, callbacks, iteration, private attributes."""

import asyncio
import contextvars
import gc
import sys
import traceback
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


def test_a_new_future_is_pending(loop: Loop) -> None:
    future = loop.create_future()
    assert asyncio.isfuture(future)
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert (future.done(), future.cancelled()) == (False, False)
    with pytest.raises(asyncio.InvalidStateError, match="^Result is not set.$"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match="^Exception is not set.$"):
        future.exception()


def test_a_result_is_set_once(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result(7)
    assert (future.done(), future.cancelled()) == (True, False)
    assert (future.result(), future.exception()) == (7, None)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_result(8)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(ValueError())
    assert future.cancel() is False
    assert future.result() == 7


def test_an_exception_class_is_instantiated(loop: Loop) -> None:
    future = loop.create_future()
    future.set_exception(ValueError)
    assert type(future.exception()) is ValueError
    with pytest.raises(ValueError):
        future.result()


def test_only_exceptions_can_be_set(loop: Loop) -> None:
    future = loop.create_future()
    with pytest.raises(TypeError):
        future.set_exception("no exception")  # type: ignore[arg-type]
    assert not future.done()


def test_stop_iteration_cannot_be_raised_into_a_future(loop: Loop) -> None:
    future = loop.create_future()
    if sys.version_info < (3, 13):
        with pytest.raises(TypeError):
            future.set_exception(StopIteration)
        assert not future.done()
    else:
        future.set_exception(stop := StopIteration(3))
        with pytest.raises(RuntimeError, match="StopIteration interacts badly") as caught:
            future.result()
        assert caught.value.__cause__ is stop


def test_repeated_results_do_not_grow_the_traceback(loop: Loop) -> None:
    future = loop.create_future()
    future.set_exception(ValueError("x"))
    lengths = []
    for _ in range(5):
        with pytest.raises(ValueError) as caught:
            future.result()
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(lengths[1:])) == 1


def test_cancel_with_a_message(loop: Loop) -> None:
    future = loop.create_future()
    assert future.cancel("why") is True
    assert future.cancel("again") is False
    assert (future.done(), future.cancelled()) == (True, True)
    for ask in (future.result, future.exception, future.result):
        with pytest.raises(asyncio.CancelledError) as caught:
            ask()
        assert caught.value.args == ("why",)


async def test_callbacks_run_in_order_and_never_inline(loop: Loop) -> None:
    future = loop.create_future()
    calls: list[Any] = []
    for name in "abc":
        future.add_done_callback(lambda done, name=name: calls.append((name, done is future)))
    future.set_result(None)
    assert calls == []
    future.add_done_callback(lambda _: calls.append("late"))
    assert calls == []
    await next_turns(1)
    assert calls == [("a", True), ("b", True), ("c", True), "late"]


async def test_callbacks_run_in_their_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    future = loop.create_future()
    seen: list[str] = []
    given = contextvars.copy_context()
    given.run(variable.set, "given")
    future.add_done_callback(lambda _: seen.append(variable.get()), context=given)
    variable.set("at registration")
    future.add_done_callback(lambda _: seen.append(variable.get()))
    variable.set("later")
    future.set_result(None)
    await next_turns(1)
    assert seen == ["given", "at registration"]


async def test_remove_done_callback_removes_all_equal(loop: Loop) -> None:
    future = loop.create_future()
    calls: list[str] = []

    def one(_: object) -> None:
        calls.append("one")

    def two(_: object) -> None:
        calls.append("two")

    for callback in (one, two, one):
        future.add_done_callback(callback)
    assert future.remove_done_callback(one) == 2
    assert future.remove_done_callback(one) == 0
    future.set_result(None)
    await next_turns(1)
    assert calls == ["two"]


async def test_await_gives_the_result_or_raises(loop: Loop) -> None:
    for value in (1, (1, 2), (), ValueError("a value"), StopIteration(5), None):
        future = loop.create_future()
        loop.call_soon(future.set_result, value)
        assert await future is value
    future = loop.create_future()
    loop.call_soon(future.set_exception, KeyError("k"))
    with pytest.raises(KeyError):
        await future


def test_the_iterator_yields_the_future_and_asks_to_block(loop: Loop) -> None:
    future = loop.create_future()
    iterator = iter(future.__await__())
    assert iterator.send(None) is future
    assert future._asyncio_future_blocking is True
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    future.set_result((1, 2))
    done = future.__await__()
    with pytest.raises(StopIteration) as stop:
        done.send("ignored")
    assert stop.value.value == (1, 2)


def test_the_iterator_can_be_thrown_into_and_closed(loop: Loop) -> None:
    future = loop.create_future()
    iterator = future.__await__()
    iterator.send(None)
    with pytest.raises(KeyError):
        iterator.throw(KeyError("k"))
    future.__await__().close()
    assert not future.done()


def test_private_attributes(loop: Loop) -> None:
    future = loop.create_future()
    assert (future._state, future._result, future._exception) == ("PENDING", None, None)
    assert not future._callbacks
    assert future._loop is loop
    assert future._log_traceback is False
    assert future._source_traceback is None
    assert future._cancel_message is None
    assert future._asyncio_future_blocking is False
    future._asyncio_future_blocking = True
    assert future._asyncio_future_blocking is True

    context = contextvars.copy_context()
    future.add_done_callback(print, context=context)
    assert [(callback, used is context) for callback, used in future._callbacks] == [(print, True)]
    future.remove_done_callback(print)

    future.set_result(3)
    assert (future._state, future._result) == ("FINISHED", 3)
    cancelled = loop.create_future()
    cancelled.cancel("m")
    assert (cancelled._state, cancelled._cancel_message) == ("CANCELLED", "m")
    assert cancelled._make_cancelled_error().args == ("m",)


def test_log_traceback_can_only_be_cleared(loop: Loop) -> None:
    future = loop.create_future()
    future.set_exception(ValueError())
    assert future._log_traceback is True
    with pytest.raises(ValueError):
        future._log_traceback = True
    future._log_traceback = False
    assert future._log_traceback is False


def test_a_lost_exception_is_reported(loop: Loop, errors: list[dict[str, Any]]) -> None:
    future = loop.create_future()
    future.set_exception(error := ValueError("lost"))
    del future
    gc.collect()
    context = errors.pop()
    assert context["message"] == "Future exception was never retrieved"
    assert context["exception"] is error
    assert isinstance(context["future"], asyncio.Future)


@pytest.mark.parametrize("look", ["result", "exception", "await"])
def test_a_seen_exception_is_not_reported(loop: Loop, look: str) -> None:
    async def main() -> None:
        future = loop.create_future()
        future.set_exception(ValueError("seen"))
        if look == "exception":
            future.exception()
            return
        with pytest.raises(ValueError):
            await future if look == "await" else future.result()

    loop.run_until_complete(main())
    gc.collect()


def test_attributes_weakrefs_and_repr(loop: Loop) -> None:
    import weakref

    future = loop.create_future()
    future.extra = 1  # type: ignore[attr-defined]
    assert future.extra == 1  # type: ignore[attr-defined]
    assert weakref.ref(future)() is future
    assert repr(future) == "<Future pending>"
    future.set_result(1)
    assert repr(future) == "<Future finished result=1>"
    cancelled = loop.create_future()
    cancelled.cancel()
    assert repr(cancelled) == "<Future cancelled>"


async def test_wrap_future_from_a_thread(loop: Loop) -> None:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert await asyncio.wrap_future(pool.submit(lambda: 5)) == 5
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(pool.submit(lambda: 1 // 0))
    source: concurrent.futures.Future[None] = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(source)
    wrapped.cancel()
    await next_turns(2)
    assert source.cancelled()


async def test_a_future_of_another_loop_is_refused(loop: Loop, loop_factory: Any) -> None:
    other = loop_factory()
    try:
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await other.create_future()
    finally:
        other.close()


@pytest.mark.parametrize(
    "name",
    ["_cancel_message", "_asyncio_future_blocking", "_log_traceback", "_log_destroy_pending"],
)
async def test_private_attributes_take_none_and_are_not_deleted(loop: Loop, name: str) -> None:
    future: Any = loop.create_task(asyncio.sleep(0))
    setattr(future, name, None)
    assert not getattr(future, name)
    with pytest.raises(AttributeError, match="delete"):
        delattr(future, name)
    await future
