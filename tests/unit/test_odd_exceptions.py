"""Exceptions whose class interferes with attributes: they go through tasks and futures unchanged.

A task must end with such an exception, not stay pending for ever because looking at it failed,
and the object that comes out of `result()`, `await` and `exception()` is the one that was raised.
A frozen dataclass is the harmless case: it refuses that its traceback be set by assignment.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int = 0


class RaisingGetattribute(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise LookupError(name)


class RaisingClass(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise LookupError


class RaisingSetattr(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise LookupError(name)


class AllAtOnce(RaisingGetattribute, RaisingClass, RaisingSetattr):
    """All of them in one class."""


ODD = [Frozen, RaisingGetattribute, RaisingClass, RaisingSetattr, AllAtOnce]
odd_classes = pytest.mark.parametrize("odd", ODD)


def raised_by(call: Callable[[], object]) -> BaseException | None:
    """What `call` raises; pytest.raises would look into the exception."""
    try:
        call()
    except BaseException as error:
        return error
    return None


async def raised_in(awaitable: Awaitable[object]) -> BaseException | None:
    """What awaiting raises."""
    try:
        await awaitable
    except BaseException as error:
        return error
    return None


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@odd_classes
async def test_a_task_ends_with_it(loop: Loop, odd: type[Exception]) -> None:
    error = odd()
    task = loop.create_task(fail(error))
    await asyncio.wait([task], timeout=10)
    assert task.done()
    assert not task.cancelled()
    for _ in range(2):
        assert raised_by(task.result) is error
        assert task.exception() is error
        assert await raised_in(task) is error


@odd_classes
async def test_a_future_carries_it(loop: Loop, odd: type[Exception]) -> None:
    error = odd()
    future: asyncio.Future[None] = loop.create_future()
    waiting = loop.create_task(raised_in(future))
    await asyncio.sleep(0)
    future.set_exception(error)
    assert await waiting is error
    assert raised_by(future.result) is error
    assert future.exception() is error


@odd_classes
async def test_a_future_makes_it_of_its_class(loop: Loop, odd: type[Exception]) -> None:
    future: asyncio.Future[None] = loop.create_future()
    future.set_exception(odd)
    error = raised_by(future.result)
    assert type(error) is odd
    assert await raised_in(future) is error


@pytest.mark.parametrize("odd", [Frozen, RaisingSetattr])
def test_run_until_complete_raises_it(loop: Loop, odd: type[Exception]) -> None:
    """Not with the others: the callback that stops the loop is asyncio's and looks into them."""
    error = odd()
    stuck = loop.call_later(10, loop.stop)
    assert raised_by(lambda: loop.run_until_complete(fail(error))) is error
    stuck.cancel()
    assert loop.run_until_complete(asyncio.sleep(0, 7)) == 7


@odd_classes
async def test_a_callback_raises_it(
    loop: Loop, errors: list[dict[str, Any]], odd: type[Exception]
) -> None:
    def callback() -> None:
        raise error

    error = odd()
    loop.call_soon(callback)
    await asyncio.sleep(0)
    assert errors.pop()["exception"] is error
