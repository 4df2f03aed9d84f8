"""Native coroutines are coroutines to everybody: attributes, misuse, warnings, foreign drivers."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import socket
import types
import warnings
import weakref
from collections.abc import Generator
from typing import Any

import oxloop
import pytest
from oxloop import _oxloop


def finish(coroutine: Any) -> Any:
    """Drive a coroutine that does not suspend to its end."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def test_it_is_a_coroutine_to_everybody() -> None:
    coroutine = _oxloop.sleep(0)
    try:
        assert asyncio.iscoroutine(coroutine)
        assert isinstance(coroutine, collections.abc.Coroutine)
        assert inspect.isawaitable(coroutine)
        assert coroutine.__name__ == coroutine.__qualname__ == "sleep"
        assert repr(coroutine).startswith("<coroutine object sleep at 0x")
        assert coroutine.cr_frame is None and coroutine.cr_await is None
        assert not coroutine.cr_running and not coroutine.cr_suspended
        assert iter(coroutine) is coroutine
    finally:
        coroutine.close()


def test_stages_and_their_errors() -> None:
    coroutine = _oxloop.sleep(0, "done")
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        coroutine.send(1)
    assert coroutine.send(None) is None
    assert coroutine.cr_suspended
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value == "done"
    assert not coroutine.cr_suspended
    for again in (lambda: coroutine.send(None), lambda: coroutine.throw(ValueError)):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            again()
    coroutine.close()


def test_a_result_that_is_a_tuple_or_an_exception_arrives_whole() -> None:
    for value in ((1, 2), (), ValueError("a value"), None):
        coroutine = _oxloop.sleep(0, value)
        coroutine.send(None)
        assert finish(coroutine) is value


def test_throw_before_the_start_and_while_suspended() -> None:
    fresh = _oxloop.sleep(0)
    error = ValueError("early")
    with pytest.raises(ValueError) as caught:
        fresh.throw(error)
    assert caught.value is error
    suspended = _oxloop.sleep(0)
    suspended.send(None)
    with pytest.raises(KeyError):
        suspended.throw(KeyError)
    with pytest.raises(TypeError, match="exceptions must be classes or instances"):
        suspended.throw(1)  # type: ignore[arg-type]


def test_never_awaited_is_warned_about_unless_closed() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _oxloop.sleep(1)
        gc.collect()
        _oxloop.sleep(1).close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == ["coroutine 'sleep' was never awaited"]
    assert caught[0].category is RuntimeWarning


def test_close_while_waiting_gives_up_the_socket() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            operation = loop.sock_recv(left, 1)
            future = operation.send(None)
            assert operation.cr_await is future
            operation.close()
            assert not loop.remove_reader(left)
            waiting = loop.sock_recv(left, 1)
            waiting.send(None)
            del waiting
            assert not loop.remove_reader(left)

    oxloop.run(main())


def test_sleep_in_a_task_of_asyncio_and_on_its_loop() -> None:
    async def main() -> str:
        assert await _oxloop.sleep(0, "at once") == "at once"
        task = asyncio.create_task(_oxloop.sleep(0.001, "later"))
        return await task

    assert asyncio.run(main()) == "later"

    async def c_task() -> str:
        loop = asyncio.get_running_loop()
        task_class: Any = asyncio.Task
        return await task_class(main(), loop=loop)

    assert oxloop.run(c_task()) == "later"


def test_a_sleeping_task_waits_for_a_future() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(_oxloop.sleep(3600))
        await asyncio.sleep(0)
        waiter = task._fut_waiter  # type: ignore[attr-defined]
        assert isinstance(waiter, asyncio.Future)
        assert not waiter.done() and not waiter.cancelled()
        task.cancel("enough")
        assert waiter.cancelled()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task

    oxloop.run(main())


def test_sleep_uses_the_timers_that_the_user_replaced() -> None:
    calls = []

    class Loop(oxloop.EventLoop):
        def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
            calls.append(delay)
            return super().call_later(0, callback, *args, context=context)

    async def main() -> None:
        await _oxloop.sleep(3600)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    assert 3600 in calls


def test_odd_delays() -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            await _oxloop.sleep("1")  # type: ignore[call-overload]
        await _oxloop.sleep(-1)
        await _oxloop.sleep(True and 0.0)

        class Delay(float):
            pass

        assert await _oxloop.sleep(Delay(0.001), 5) == 5

    oxloop.run(main())


def test_sleep_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        _oxloop.sleep(1).send(None)


def test_a_cycle_through_a_coroutine_is_collected() -> None:
    class Result:
        coroutine: Any = None

    result = Result()
    result.coroutine = _oxloop.sleep(0, result)
    result.coroutine.send(None)
    gone = weakref.ref(result)
    del result
    gc.collect()
    assert gone() is None


def test_awaited_by_a_generator_based_coroutine() -> None:
    @types.coroutine
    def old_style() -> Generator[Any, None, str]:
        return (yield from _oxloop.sleep(0, "old"))

    async def main() -> str:
        return await old_style()

    assert oxloop.run(main()) == "old"
