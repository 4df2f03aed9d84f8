"""A foreign event loop in Python, of the kind that durable-workflow engines run user code on.

Facts. Such a loop is an AbstractEventLoop without sockets or a clock: its time is given to it, it
runs what is ready and returns, and the same inputs always give the same order of steps. It makes
`asyncio.Task(coro, loop=self)` and `asyncio.Future(loop=self)`, and claims to be the running loop
with `asyncio._set_running_loop` while it runs, be it in a worker thread or in the middle of a
callback of another loop.

Decision. `activate` is one round: results of activities come in, steps run, commands (activities
to carry out) and the time of the next timer go out. Whoever calls it carries the commands out.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Activity:
    """A command: carry out `name` with `argument` and report the result under `number`."""

    number: int
    name: str
    argument: Any


@dataclass
class Activation:
    """What a round left behind: activities to carry out, and the time of the next timer, if any."""

    activities: list[Activity] = field(default_factory=list)
    timer_at_s: float | None = None


class WorkflowLoop(asyncio.AbstractEventLoop):
    """Runs one coroutine, the workflow, in rounds. `outcome` is its task."""

    def __init__(self, workflow: Coroutine[Any, Any, Any]) -> None:
        self._now_s = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = 0
        self._activation = Activation()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.failures: list[dict[str, Any]] = []
        self.outcome: asyncio.Task[Any] = self.create_task(workflow)

    def activate(self, now_s: float, results: dict[int, Any] | None = None) -> Activation:
        """Run everything that is ready at `now_s`, after the `results` of activities.

        Works with or without another loop running in this thread; that loop is the running one
        again afterwards.
        """
        self._now_s = now_s
        self._activation = Activation()
        interrupted = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        asyncio._set_running_loop(self)
        try:
            for number, result in (results or {}).items():
                self._waiting.pop(number).set_result(result)
            while True:
                while self._ready:
                    handle = self._ready.popleft()
                    if not handle.cancelled():
                        handle._run()
                if not self._timers or self._timers[0][0] > now_s:
                    break
                self._ready.append(heapq.heappop(self._timers)[2])
        finally:
            asyncio._set_running_loop(interrupted)
        self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
        heapq.heapify(self._timers)
        if self._timers:
            self._activation.timer_at_s = self._timers[0][0]
        return self._activation

    def activity(self, name: str, argument: Any) -> asyncio.Future[Any]:
        """Ask for an activity from inside the workflow; the future gets its result."""
        self._order += 1
        self._activation.activities.append(Activity(self._order, name, argument))
        self._waiting[self._order] = self.create_future()
        return self._waiting[self._order]

    def time(self) -> float:
        return self._now_s

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers leave at the end of the round."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, **options)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)
