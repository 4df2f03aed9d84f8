"""The collector runs at every allocation: it must find only whole objects.

On 3.11 it runs within allocations, also within that of an object whose contents are not there yet.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import oxloop
import pytest
from loops import Factory

CLASSES: list[Callable[[], Any]] = [
    oxloop.Future,
    oxloop.Lock,
    oxloop.Event,
    oxloop.Condition,
    oxloop.Semaphore,
    oxloop.BoundedSemaphore,
    oxloop.Queue,
    oxloop.LifoQueue,
    oxloop.PriorityQueue,
    oxloop.StreamReader,
    oxloop.TaskGroup,
    lambda: oxloop.Barrier(2),
    lambda: oxloop.timeout(1),
    lambda: oxloop.Timeout(None),
]


def objects_made_while_the_collector_runs(factory: Factory) -> None:
    async def main() -> None:
        for make in CLASSES:
            kept = [make() for _ in range(50)]
            if isinstance(make, type):
                subclass = type("Subclass", (make,), {})
                kept += [subclass() for _ in range(50)]

    run(factory, main())


def tasks_that_sleep_while_the_collector_runs(factory: Factory) -> None:
    async def sleeper(seconds: float) -> None:
        for _ in range(3):
            await oxloop.sleep(seconds)
            await asyncio.sleep(0)

    async def main() -> None:
        await oxloop.gather(*[sleeper(number / 1e5) for number in range(100)])
        async with oxloop.TaskGroup() as group:
            for number in range(50):
                group.create_task(oxloop.wait_for(sleeper(number / 1e5), 30))
        tasks = [asyncio.ensure_future(sleeper(0)) for _ in range(20)]
        await oxloop.wait(tasks, timeout=30)

    run(factory, main())


def run(factory: Factory, main: Any) -> None:
    gc.set_threshold(1, 1, 1)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


@pytest.mark.parametrize(
    "trap", [objects_made_while_the_collector_runs, tasks_that_sleep_while_the_collector_runs]
)
def test_trap(trap: Callable[[Factory], None], in_child: Callable[..., None]) -> None:
    in_child(trap)
