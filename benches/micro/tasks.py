"""Tasks: creation, the step, and yielding to others."""

from __future__ import annotations

import asyncio

from micro.scenario import scenario

BATCH = 100
CROWD = 1000


async def _noop() -> None:
    pass


@scenario()
async def create_task(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A task that returns at once, created and awaited."""
    for _ in range(count):
        await loop.create_task(_noop())


@scenario(batch=BATCH)
async def create_task_batch_100(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A task that returns at once, of 100 created together and awaited in turn."""
    for _ in range(count // BATCH):
        for task in [loop.create_task(_noop()) for _ in range(BATCH)]:
            await task


@scenario()
async def sleep0_1task(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A sleep(0), with no other task."""
    for _ in range(count):
        await asyncio.sleep(0)


@scenario(batch=CROWD)
async def sleep0_1000tasks(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A sleep(0), with 1,000 tasks that do the same."""
    # With few rounds the creation of the crowd would be a part of each operation.
    rounds = count // CROWD

    async def sleeper() -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)

    tasks = [loop.create_task(sleeper()) for _ in range(CROWD)]
    for task in tasks:
        await task
