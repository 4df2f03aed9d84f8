"""Edges of wait, TaskGroup, done callbacks and the executor's shutdown, on both loops."""

import asyncio
import contextvars
import sys
import threading
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("wait", [asyncio.wait, oxloop.wait], ids=["asyncio.wait", "oxloop.wait"])
async def test_waiting_for_nothing(loop: Loop, wait: Any) -> None:
    with pytest.raises(ValueError, match="Set of Tasks/Futures is empty"):
        await wait([])
    if sys.version_info >= (3, 12):
        # An iterator is true, and has no futures all the same.
        with pytest.raises(AssertionError, match="Set of Futures is empty"):
            await wait(future for future in ())


async def test_a_group_that_cancels_itself_leaves_nothing_behind(
    loop: Loop, loop_name: str
) -> None:
    if loop_name == "asyncio" and sys.version_info < (3, 13):
        pytest.skip("what a task of asyncio's asked of itself cannot be taken back there")
    async with oxloop.TaskGroup() as group:
        group.cancel()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_failing_done_callback_is_reported_with_its_handle(
    loop: Loop, errors: list[dict[str, Any]]
) -> None:
    seen: list[str] = []

    def handler(_: Loop, report: dict[str, Any]) -> None:
        seen.append(variable.get())
        errors.append(report)

    loop.set_exception_handler(handler)
    context = contextvars.copy_context()
    context.run(variable.set, "the callback's")
    future = loop.create_future()

    def fail(_: Any) -> None:
        raise KeyError("failed")

    future.add_done_callback(fail, context=context)
    future.set_result(1)
    await asyncio.sleep(0)
    (report,) = errors
    errors.clear()
    assert sorted(report) == ["exception", "handle", "message"]
    assert isinstance(report["handle"], asyncio.Handle)
    assert report["message"].startswith("Exception in callback ")
    assert seen == ["the callback's" if sys.version_info >= (3, 12) else "unset"]


async def test_a_cancelled_shutdown_of_the_executor_does_not_wait(
    loop: Loop, loop_name: str
) -> None:
    # Later releases of 3.12 do not wait, the first ones do.
    if sys.version_info < ((3, 13) if loop_name == "asyncio" else (3, 12)):
        pytest.skip("it waits for the threads there")
    may_end = threading.Event()
    working = loop.run_in_executor(None, may_end.wait)
    ending = asyncio.ensure_future(loop.shutdown_default_executor())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert not working.done()
    may_end.set()
    assert await working
