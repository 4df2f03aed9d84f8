"""Timeouts that do not expire: what every guarded request pays."""

from __future__ import annotations

import asyncio

from micro.scenario import scenario


async def _noop() -> None:
    pass


@scenario()
async def wait_for(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A wait_for of a coroutine that returns at once, with a timeout of a minute."""
    for _ in range(count):
        await asyncio.wait_for(_noop(), 60)


@scenario()
async def timeout(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A timeout block of a minute around a sleep(0)."""
    for _ in range(count):
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
