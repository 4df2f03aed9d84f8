"""Many tasks awaited as one: gather and TaskGroup."""

from __future__ import annotations

import asyncio

from micro.scenario import scenario

GATHERED = 1000
GROUPED = 100


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
