"""Cancellation of tasks: counts, messages, who gets the exception, last-moment cancels."""

import asyncio
import sys
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


async def test_cancel_before_the_first_step(loop: Loop) -> None:
    ran: list[int] = []

    async def never() -> None:
        ran.append(1)

    task = loop.create_task(never())
    assert task.cancel() is True
    await asyncio.wait([task])
    assert task.cancelled()
    assert ran == []
    assert task.cancel() is False


async def test_cancel_goes_to_the_awaited_future(loop: Loop) -> None:
    future = loop.create_future()

    async def wait() -> None:
        await future

    task = loop.create_task(wait())
    await next_turns(1)
    assert task.cancel("message") is True
    assert future.cancelled()
    assert task._must_cancel is False  # type: ignore[attr-defined]
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("message",)
    assert task.cancelled()


async def test_cancel_goes_through_a_chain_of_tasks(loop: Loop) -> None:
    trace: list[str] = []

    async def level(number: int) -> None:
        try:
            if number == 0:
                await asyncio.sleep(100)
            else:
                await loop.create_task(level(number - 1))
        except asyncio.CancelledError as error:
            trace.append(f"{number}:{error.args}")
            raise

    task = loop.create_task(level(3))
    await next_turns(6)
    task.cancel("deep")
    await asyncio.wait([task])
    assert trace == [f"{number}:('deep',)" for number in range(4)]


async def test_a_cancel_can_be_refused(loop: Loop) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "refused"
        return "slept"

    task = loop.create_task(stubborn())
    await next_turns(1)
    task.cancel()
    assert await task == "refused"
    assert not task.cancelled()
    assert task.cancelling() == 1


async def test_counts(loop: Loop) -> None:
    counts: list[int] = []

    async def count() -> None:
        me: Any = asyncio.current_task()
        for _ in range(2):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                counts.append(me.cancelling())
        counts.append(me.uncancel())
        counts.append(me.uncancel())
        counts.append(me.uncancel())
        counts.append(me.cancelling())

    task = loop.create_task(count())
    await next_turns(1)
    assert task.cancelling() == 0
    task.cancel()
    await next_turns(2)
    task.cancel()
    await task
    assert counts == [1, 2, 1, 0, 0, 0]


async def test_two_cancels_in_one_turn_count_two(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(100))
    await next_turns(1)
    assert (task.cancel(), task.cancel()) == (True, True)
    assert task.cancelling() == 2
    await asyncio.wait([task])
    assert task.cancelled()


async def test_cancel_of_the_own_task_comes_at_the_next_await(loop: Loop) -> None:
    trace: list[str] = []

    async def suicidal() -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        trace.append("still running")
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            trace.append("cancelled")
            raise

    task = loop.create_task(suicidal())
    await asyncio.wait([task])
    assert trace == ["still running", "cancelled"]
    assert task.cancelled()


async def test_cancel_during_the_last_step_wins_over_the_result(loop: Loop) -> None:
    async def last() -> int:
        asyncio.current_task().cancel("late")  # type: ignore[union-attr]
        return 1

    task = loop.create_task(last())
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("late",)
    assert task.cancelled()


async def test_uncancel_to_zero_withdraws_a_pending_cancel(loop: Loop) -> None:
    async def change_of_mind() -> str:
        me: Any = asyncio.current_task()
        me.cancel()
        me.uncancel()
        await asyncio.sleep(0)
        return "went on"

    task = loop.create_task(change_of_mind())
    await asyncio.wait([task])
    if sys.version_info >= (3, 13):
        assert task.result() == "went on"
    else:
        assert task.cancelled()


async def test_the_same_exception_object_travels(loop: Loop) -> None:
    seen: list[BaseException] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError as error:
            seen.append(error)
            raise

    async def outer() -> None:
        try:
            await inner()
        except asyncio.CancelledError as error:
            seen.append(error)
            raise

    task = loop.create_task(outer())
    await next_turns(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert seen[0] is seen[1] is caught.value


async def test_raising_cancelled_error_oneself_cancels_the_task(loop: Loop) -> None:
    async def leave() -> None:
        raise asyncio.CancelledError("by myself")

    task = loop.create_task(leave())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancelled_sleep_leaves_no_timer(loop: Loop) -> None:
    tasks = [loop.create_task(asyncio.sleep(1000)) for _ in range(100)]
    await next_turns(1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_cancel_of_a_task_that_is_already_woken(loop: Loop) -> None:
    """The result of the future is there, the step is queued: the cancel still gets through."""
    future = loop.create_future()

    async def wait() -> str:
        return await future

    task = loop.create_task(wait())
    await next_turns(1)
    future.set_result("result")
    assert task.cancel() is True
    await asyncio.wait([task])
    assert task.cancelled()


async def test_repr_says_cancelling(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(100))
    await next_turns(1)
    task.cancel()
    assert repr(task).startswith("<Task cancelling name=")
    await asyncio.wait([task])
    assert repr(task).startswith("<Task cancelled name=")


async def test_wait_for_timeout_group_and_shield(loop: Loop) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.sleep(100), 0.01)
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(100)
    inner = loop.create_task(asyncio.sleep(0.01, "inner"))
    outer = asyncio.shield(inner)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert await inner == "inner"

    async def fail() -> None:
        raise KeyError("k")

    with pytest.raises(BaseExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            other = group.create_task(asyncio.sleep(100))
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    assert other.cancelled()
    if sys.version_info >= (3, 13):  # earlier groups leave the count of their own cancel
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
