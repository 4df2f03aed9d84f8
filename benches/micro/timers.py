"""Timers: most are cancelled before they are due, as timeouts of requests are."""

from __future__ import annotations

import asyncio
import time

from micro.scenario import scenario

IN_FLIGHT = 10_000
BATCH = 1000
# Above a millisecond, so that a loop whose clock ticks in milliseconds makes a timer, not a
# callback, of it.
DELAY_S = 0.002
# After this long all of them are due, whatever they took to make.
DUE_S = 0.006


def _never() -> None:
    raise AssertionError("a cancelled timer fired")


@scenario(batch=IN_FLIGHT)
async def call_later_cancel(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A timer of a minute made and cancelled, 10,000 being in flight before the first cancel."""
    for _ in range(count // IN_FLIGHT):
        for handle in [loop.call_later(60, _never) for _ in range(IN_FLIGHT)]:
            handle.cancel()
        await asyncio.sleep(0)


@scenario(batch=BATCH)
async def call_later_cancel_at_once(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A timer of a minute cancelled right after it was made; an iteration every 1,000 of them."""
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            loop.call_later(60, _never).cancel()
        await asyncio.sleep(0)


class _Fires:
    """Counts the timers that are still to fire."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.left = BATCH

    def fire(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


@scenario(batch=BATCH)
async def call_later_fire(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A timer that fires, of 1,000 that are all due at once (wall time includes the waiting)."""
    for _ in range(count // BATCH):
        fires = _Fires(loop.create_future())
        for index in range(BATCH):
            loop.call_later(DELAY_S + index * 1e-6, fires.fire)
        # Otherwise how many iterations share the timers would depend on the clock's grain.
        time.sleep(DUE_S)
        await fires.done
