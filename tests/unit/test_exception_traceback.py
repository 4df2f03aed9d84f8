"""The traceback of a task's exception: there at every look, and not longer with each."""

import asyncio
import traceback

import pytest

Loop = asyncio.AbstractEventLoop


async def fail() -> None:
    raise ValueError("kept")


def functions(error: BaseException | None) -> list[str]:
    """The names of the functions that the traceback of `error` goes through."""
    assert error is not None
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


async def test_exception_keeps_it_on_every_call(loop: Loop) -> None:
    task = loop.create_task(fail())
    await asyncio.wait([task])
    for _ in range(3):
        assert functions(task.exception()) == ["fail"]


async def test_exception_keeps_it_after_the_task_was_awaited(loop: Loop) -> None:
    task = loop.create_task(fail())
    with pytest.raises(ValueError) as caught:
        await task
    for _ in range(2):
        assert task.exception() is caught.value
        assert functions(caught.value)[-1] == "fail"


async def test_exception_keeps_it_after_result(loop: Loop) -> None:
    task = loop.create_task(fail())
    await asyncio.wait([task])
    with pytest.raises(ValueError):
        task.result()
    for _ in range(2):
        assert functions(task.exception())[-1] == "fail"


async def test_result_does_not_make_it_longer(loop: Loop) -> None:
    task = loop.create_task(fail())
    await asyncio.wait([task])
    seen = []
    for _ in range(3):
        with pytest.raises(ValueError) as caught:
            task.result()
        seen.append(functions(caught.value))
    assert seen[0][-1] == "fail"
    assert len(seen[0]) >= len(seen[1]) == len(seen[2])
