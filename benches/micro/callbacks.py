"""Callbacks: the ready queue and its handles."""

from __future__ import annotations

import asyncio

from micro.scenario import scenario

BURST = 1000


@scenario()
async def call_soon_chain(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A callback that schedules the next one: one iteration of the loop each."""
    done = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


@scenario(batch=BURST)
async def call_soon_burst(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A callback with one argument, scheduled and run in bursts of 1,000."""
    ran = 0

    def step(amount: int) -> None:
        nonlocal ran
        ran += amount

    for _ in range(count // BURST):
        for _ in range(BURST):
            loop.call_soon(step, 1)
        await asyncio.sleep(0)
    if ran != count:
        raise AssertionError(f"{ran} callbacks ran of {count}")
