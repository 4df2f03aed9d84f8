"""Many tasks awaited as one: gather, TaskGroup, wait, as_completed, shield."""

from __future__ import annotations

import asyncio

from micro.scenario import scenario

GATHERED = 1000
GROUPED = 100
WAITED = 100


async def _noop() -> None:
    pass


@scenario(batch=GATHERED)
async def gather_1000(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A coroutine, of 1,000 that gather runs at once."""
    for _ in range(count // GATHERED):
        await asyncio.gather(*[_noop() for _ in range(GATHERED)])


@scenario(batch=GROUPED)
async def taskgroup_100(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A task, of 100 in a TaskGroup."""
    for _ in range(count // GROUPED):
        async with asyncio.TaskGroup() as group:
            for _ in range(GROUPED):
                group.create_task(_noop())


@scenario(batch=WAITED)
async def wait_100(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A task, of 100 that wait waits for."""
    for _ in range(count // WAITED):
        await asyncio.wait([loop.create_task(_noop()) for _ in range(WAITED)])


@scenario(batch=WAITED)
async def as_completed_100(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A coroutine, of 100 whose results as_completed gives one by one."""
    for _ in range(count // WAITED):
        for result in asyncio.as_completed([_noop() for _ in range(WAITED)]):
            await result


@scenario()
async def shield(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A shielded coroutine that returns at once."""
    for _ in range(count):
        await asyncio.shield(_noop())
