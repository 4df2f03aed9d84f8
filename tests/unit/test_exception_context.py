"""What is raised while another exception is handled has that one as its `__context__`.

Python code does so whenever it raises; the traceback then tells both. Every test runs with asyncio,
which says what is right.
"""

import asyncio
import inspect
import types
from collections.abc import Callable
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=["asyncio", "oxloop"])
def ns(request: pytest.FixtureRequest) -> types.ModuleType:
    """The namespace whose classes are tested."""
    return asyncio if request.param == "asyncio" else oxloop


def result_of_pending(ns: Any, loop: Loop) -> Any:
    return loop.create_future().result()


def exception_of_pending(ns: Any, loop: Loop) -> Any:
    return loop.create_future().exception()


def second_result(ns: Any, loop: Loop) -> None:
    future = loop.create_future()
    future.set_result(1)
    future.set_result(2)


def failed(loop: Loop) -> asyncio.Future[Any]:
    future = loop.create_future()
    future.set_exception(ValueError("of the future"))
    return future


def cancelled(loop: Loop) -> asyncio.Future[Any]:
    future = loop.create_future()
    future.cancel("message")
    return future


def result_of_failed(ns: Any, loop: Loop) -> Any:
    return failed(loop).result()


def result_of_cancelled(ns: Any, loop: Loop) -> Any:
    return cancelled(loop).result()


def exception_of_cancelled(ns: Any, loop: Loop) -> Any:
    return cancelled(loop).exception()


async def await_failed(ns: Any, loop: Loop) -> Any:
    return await failed(loop)


async def await_cancelled(ns: Any, loop: Loop) -> Any:
    return await cancelled(loop)


async def await_failing_later(ns: Any, loop: Loop) -> Any:
    future = loop.create_future()
    loop.call_soon(future.set_exception, ValueError("later"))
    return await future


def empty_queue(ns: Any, loop: Loop) -> Any:
    return ns.Queue().get_nowait()


def full_queue(ns: Any, loop: Loop) -> None:
    queue = ns.Queue(1)
    queue.put_nowait(1)
    queue.put_nowait(2)


async def aborted_barrier(ns: Any, loop: Loop) -> None:
    barrier = ns.Barrier(2)
    await barrier.abort()
    await barrier.wait()


def unlocked(ns: Any, loop: Loop) -> None:
    ns.Lock().release()


async def read_too_short(ns: Any, loop: Loop) -> None:
    reader = ns.StreamReader()
    reader.feed_data(b"ab")
    reader.feed_eof()
    await reader.readexactly(3)


async def read_of_failed(ns: Any, loop: Loop) -> None:
    reader = ns.StreamReader()
    reader.set_exception(ValueError("of the reader"))
    await reader.read(3)


async def read_too_long(ns: Any, loop: Loop) -> None:
    reader = ns.StreamReader(limit=4)
    reader.feed_data(b"abcdefgh")
    await reader.readuntil(b"x")


RAISING = [
    function
    for function in list(globals().values())
    if inspect.isfunction(function)
    and list(inspect.signature(function).parameters) == ["ns", "loop"]
]


@pytest.mark.parametrize("function", RAISING, ids=lambda function: function.__name__)
async def test_context(loop: Loop, ns: Any, function: Callable[[Any, Loop], Any]) -> None:
    handled = KeyError("handled")
    with pytest.raises(BaseException) as raised:  # noqa: PT011
        try:
            raise handled
        except KeyError:
            done = function(ns, loop)
            if inspect.isawaitable(done):
                await done
    assert raised.value is not handled
    assert raised.value.__context__ is handled


async def test_a_context_that_is_there_stays(loop: Loop) -> None:
    future, earlier = loop.create_future(), KeyError("earlier")
    error = ValueError("later")
    error.__context__ = earlier
    future.set_exception(error)
    with pytest.raises(ValueError, match="later") as raised:
        future.result()
    assert raised.value.__context__ is earlier


async def test_no_context_of_its_own(loop: Loop) -> None:
    """An exception that is raised again while it is handled is no context of itself."""
    future = failed(loop)
    try:
        future.result()
    except ValueError as error:
        with pytest.raises(ValueError, match="of the future") as again:
            future.result()
        assert again.value is error
        assert again.value.__context__ is None
