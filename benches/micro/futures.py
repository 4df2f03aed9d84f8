"""Futures: one task waits for what another one resolves."""

from __future__ import annotations

import asyncio

from micro.scenario import scenario


@scenario(batch=2)
async def future_pingpong(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A hand-over between two tasks: a future created, awaited by one, resolved by the other."""
    waiting = [loop.create_future(), loop.create_future()]

    async def player(mine: int, other: int) -> None:
        for _ in range(count // 2):
            await waiting[mine]
            waiting[mine] = loop.create_future()
            waiting[other].set_result(None)

    players = [loop.create_task(player(0, 1)), loop.create_task(player(1, 0))]
    waiting[0].set_result(None)
    for task in players:
        await task
