"""Event loops on a virtual clock, so that a program of hours runs in a millisecond, repeatably.

Two kinds. On the first the clock moves in ticks: asyncio's and oxloop's own loops, whose waits
nobody can replace but whose `time()` anybody can. A callback that schedules itself again and again
keeps them from waiting; when it finds nothing else that is ready it moves the clock on by one tick,
and when many ticks bring nothing, the program is stuck, and that is part of its outcome. Timers
that are due within one tick run in one iteration.

On the second kind the clock jumps to the next deadline: `oxloop.testing.SimEventLoop` as it is,
which simulates the kernel below the loop, and an asyncio loop whose selector does the same. There
every timer has an iteration of its own, and nothing is in the ready queue that the program did not
put there. When nothing is ready and no timer is set, the wait raises OSError: the program is stuck.

What can still go wrong: a program that is never idle ends after some iterations when the clock
ticks, and runs for ever on SimEventLoop.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import weakref
from collections.abc import Callable
from typing import Any

import oxloop
import oxloop.testing

# Longer than any delay of a program, and of what ends it.
IDLE_S_MAX = 5.5
ITERATIONS_MAX = 20_000

# A program that is stuck goes on at the next multiple of this.
STUCK_S = 1000.0

NS_PER_S = 1e9

# Called in each iteration with the time, how many iterations there were at this time, and whether
# anything else is ready.
Look = Callable[[float, int, bool], None]


class Holding:
    """A loop that holds its tasks, as oxloop's does (docs/differences.md); a mixin for asyncio's.

    Otherwise tasks that wait for what nobody can reach would be collected in the midst.
    """

    held: list[Any]

    def create_task(self, coro: Any, **options: Any) -> Any:
        """As the loop's own."""
        task = super().create_task(coro, **options)  # type: ignore[misc]
        self.held.append(task)
        return task


class Ticking:
    """A clock that moves in ticks, and what moves it; a mixin of loop classes."""

    _now_s = 0.0

    def time(self) -> float:
        """Seconds since the start of the program."""
        return self._now_s

    def start_clock(
        self, tick_s: float | None, when_stuck: Callable[[], bool], looked: Look
    ) -> None:
        """Move the clock by `tick_s` whenever there is nothing else to do.

        `when_stuck` is called when many ticks brought nothing; it returns whether it did
        anything that may help. If not, and after too many iterations, the loop is stopped.
        """
        assert tick_s is not None
        # A loop that is dropped while it is closed takes its clock along.
        loop: Any = weakref.proxy(self)
        idle_looks = idle_ticks = iterations = looks = 0

        def look() -> None:
            nonlocal idle_looks, idle_ticks, iterations, looks
            iterations += 1
            loop.call_soon(look)
            is_busy = len(loop._ready) > 1
            looks += 1
            looked(loop._now_s, looks, is_busy)
            if is_busy:
                idle_looks = idle_ticks = 0
            else:
                idle_looks += 1
            # oxloop's timers that are due run after the jobs of the next iteration, and are not in
            # `_ready` until then: the look after that one is the first that can be sure.
            if idle_looks >= 3:
                idle_looks = looks = 0
                idle_ticks += 1
                loop._now_s += tick_s
            if iterations > ITERATIONS_MAX:
                iterations = 0
                loop.stop()
            elif idle_ticks * tick_s > IDLE_S_MAX:
                idle_ticks = looks = 0
                # How many looks it took depends on what `_ready` shows; the time must not.
                loop._now_s = (loop._now_s // STUCK_S + 1) * STUCK_S
                if not when_stuck():
                    loop.stop()

        loop.call_soon(look)

    def run(self, awaitable: Any) -> Any:
        """`run_until_complete`."""
        return self.run_until_complete(awaitable)  # type: ignore[attr-defined]


class TickingAsyncio(Holding, Ticking, asyncio.SelectorEventLoop):
    """asyncio's loop on a clock that ticks."""

    def __init__(self) -> None:
        super().__init__()
        self.held = []


class TickingOxloop(Ticking, oxloop.EventLoop):  # type: ignore[misc]
    """oxloop's loop on a clock that ticks."""


class Jumping:
    """A loop that raises OSError when it would wait for ever; a mixin of loop classes."""

    _when_stuck: Callable[[], bool]

    def start_clock(
        self, tick_s: float | None, when_stuck: Callable[[], bool], looked: Look
    ) -> None:
        """From now on `when_stuck` is called when the program waits for what never comes."""
        assert tick_s is None
        self._when_stuck = when_stuck

    def run(self, awaitable: Any) -> Any:
        """`run_until_complete`, which goes on after the program was stuck."""
        loop: Any = self
        future = asyncio.ensure_future(awaitable, loop=loop)
        while True:
            try:
                return loop.run_until_complete(future)
            except OSError as error:
                if future.done() or "stands still" not in str(error):
                    raise
            if not self._when_stuck():
                raise RuntimeError("Event loop stopped before Future completed.")


class JumpingSelector(selectors.SelectSelector):
    """Waits by moving its loop's clock."""

    loop: JumpingAsyncio
    waits = 0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready now; the clock is at the next deadline then."""
        self.waits += 1
        if timeout is None or self.waits > ITERATIONS_MAX:
            raise OSError("the clock stands still")
        if timeout > 0:
            self.loop.jump()
        return super().select(0)


class JumpingAsyncio(Holding, Jumping, asyncio.SelectorEventLoop):
    """asyncio's loop on a clock that jumps to the next deadline, in whole nanoseconds."""

    _now_ns = 0

    def __init__(self) -> None:
        selector = JumpingSelector()
        super().__init__(selector)
        selector.loop = weakref.proxy(self)
        self.held = []

    def time(self) -> float:
        """Seconds since the start of the program."""
        return self._now_ns / NS_PER_S

    def jump(self) -> None:
        """Move the clock to the first deadline."""
        when_s = self._scheduled[0].when()  # type: ignore[attr-defined]
        self._now_ns = math.ceil(when_s * NS_PER_S)
        while self.time() < when_s:
            self._now_ns += 1


class Simulated(Jumping, oxloop.testing.SimEventLoop):
    """oxloop's loop on a simulated kernel."""
