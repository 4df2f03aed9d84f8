"""Eager tasks (Python 3.12 and later): the first step runs inside the call that makes them."""

import asyncio
import contextvars
import sys
from typing import Any

import pytest
from recorder import next_turns

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12"
)

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def eager_loop(loop: Loop) -> Loop:
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def test_a_task_that_never_waits_is_done_at_once(eager_loop: Loop) -> None:
    async def value() -> object:
        current.append(asyncio.current_task())
        return "value"

    async def main() -> None:
        me = asyncio.current_task()
        task = asyncio.create_task(value(), name="eager")
        assert task.done()
        assert task.result() == "value"
        if sys.version_info >= (3, 13):  # Python 3.12.1 crashes when it is asked
            assert task.get_coro() is None
        assert current == [task]
        assert asyncio.current_task() is me
        assert task not in asyncio.all_tasks()
        assert task.get_name() == "eager"

    current: list[Any] = []
    eager_loop.run_until_complete(main())


def test_a_task_that_waits_becomes_an_ordinary_one(eager_loop: Loop) -> None:
    async def steps() -> str:
        trace.append("first step")
        await asyncio.sleep(0)
        trace.append("second step")
        return "end"

    async def main() -> None:
        task = asyncio.create_task(steps())
        assert trace == ["first step"]
        assert not task.done()
        assert task in asyncio.all_tasks()
        assert await task == "end"

    trace: list[str] = []
    eager_loop.run_until_complete(main())


def test_an_eager_step_that_raises(eager_loop: Loop) -> None:
    async def fail() -> None:
        raise ValueError("eager")

    async def main() -> None:
        me = asyncio.current_task()
        task = asyncio.create_task(fail())
        assert task.done()
        assert isinstance(task.exception(), ValueError)
        assert asyncio.current_task() is me

    eager_loop.run_until_complete(main())


def test_the_eager_step_has_its_own_context(eager_loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def change() -> None:
        variable.set("changed")

    async def main() -> str:
        await asyncio.create_task(change())
        return variable.get()

    assert eager_loop.run_until_complete(main()) == "none"


def test_nested_eager_tasks_and_current_task(eager_loop: Loop) -> None:
    async def level(number: int) -> None:
        me = asyncio.current_task()
        seen.append(me)
        if number:
            await asyncio.create_task(level(number - 1))
        assert asyncio.current_task() is me

    seen: list[Any] = []
    eager_loop.run_until_complete(level(5))
    assert len(set(map(id, seen))) == 6


def test_cancel_of_a_waiting_eager_task(eager_loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(100))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    eager_loop.run_until_complete(main())


def test_eager_in_groups_and_gather(eager_loop: Loop) -> None:
    async def value(number: int) -> int:
        if number % 2:
            await asyncio.sleep(0)
        return number

    async def main() -> None:
        assert await asyncio.gather(*map(value, range(6))) == list(range(6))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(value(number)) for number in range(6)]
        assert [task.result() for task in tasks] == list(range(6))

    eager_loop.run_until_complete(main())


def test_eager_start_of_asyncios_own_task_class(loop: Loop) -> None:
    async def value() -> int:
        return 5

    async def main() -> None:
        task = asyncio.Task(value(), loop=loop, eager_start=True)
        assert task.done()
        assert task.result() == 5
        waiting = asyncio.Task(asyncio.sleep(0, 6), loop=loop, eager_start=True)
        assert not waiting.done()
        assert await waiting == 6

    loop.run_until_complete(main())


async def test_a_factory_of_an_own_eager_class(loop: Loop) -> None:
    class Own(asyncio.Task):  # type: ignore[type-arg]
        pass

    loop.set_task_factory(asyncio.create_eager_task_factory(Own))
    task = loop.create_task(asyncio.sleep(0, "own"))
    assert type(task) is Own
    await next_turns(1)
    assert await task == "own"
