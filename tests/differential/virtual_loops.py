"""Event loops on a virtual clock, so that a program of hours runs in a millisecond, repeatably.

Facts: neither loop lets Python replace its wait. Both let it replace `time()`, and both run every
job that is ready before they look at the clock again.
Decision: a callback that schedules itself again and again keeps the loops from waiting. When it
finds nothing else that is ready it moves the clock on by one tick; when many ticks bring nothing,
the program is stuck, and that is part of its outcome.
What can still go wrong: timers that are due within one tick run in one iteration. Ticks of
different lengths cover both that and its opposite.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import oxloop

# Longer than any delay of a program, in ticks of the shortest kind.
IDLE_TICKS_MAX = 60
ITERATIONS_MAX = 20_000

# A program that is stuck goes on at the next multiple of this.
STUCK_S = 1000.0


class VirtualTime:
    """The clock of a loop, and what moves it; a mixin of loop classes."""

    _now_s = 0.0

    def time(self) -> float:
        """Seconds since the start of the program."""
        return self._now_s

    def start_clock(self, tick_s: float, when_stuck: Callable[[], bool]) -> None:
        """Move the clock by `tick_s` whenever there is nothing else to do.

        `when_stuck` is called when many ticks brought nothing; it returns whether it did
        anything that may help. If not, and after too many iterations, the loop is stopped.
        """
        # A loop that is dropped while it is closed takes its clock along.
        loop: Any = weakref.proxy(self)
        idle_looks = idle_ticks = iterations = 0

        def look() -> None:
            nonlocal idle_looks, idle_ticks, iterations
            iterations += 1
            loop.call_soon(look)
            if len(loop._ready) > 1:
                idle_looks = idle_ticks = 0
            else:
                idle_looks += 1
            # oxloop's timers that are due run after the jobs of the next iteration, and are not in
            # `_ready` until then: the look after that one is the first that can be sure.
            if idle_looks >= 3:
                idle_looks = 0
                idle_ticks += 1
                loop._now_s += tick_s
            if iterations > ITERATIONS_MAX:
                iterations = 0
                loop.stop()
            elif idle_ticks > IDLE_TICKS_MAX:
                idle_ticks = 0
                # How many looks it took depends on what `_ready` shows; the time must not.
                loop._now_s = (loop._now_s // STUCK_S + 1) * STUCK_S
                if not when_stuck():
                    loop.stop()

        loop.call_soon(look)


class AsyncioLoop(VirtualTime, asyncio.SelectorEventLoop):
    """asyncio's loop on a virtual clock."""


class OxloopLoop(VirtualTime, oxloop.EventLoop):
    """oxloop's loop on a virtual clock."""
