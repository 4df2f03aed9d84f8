"""What a program is run with: a namespace, and a loop.

The classes here are asyncio's with what oxloop does differently on purpose; each names the reason.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import oxloop

from differential.virtual_loops import JumpingAsyncio, Simulated, TickingAsyncio, TickingOxloop


class InOrder(dict[Any, None]):
    """A set that is iterated in the order in which it was filled."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.keys()))


class TaskGroup(asyncio.TaskGroup):
    """asyncio's, that cancels its tasks in the order in which they were made, not by address.

    As in 3.14, and in oxloop, it hears of an eager task that is done at once by a callback, and not
    within `create_task`.
    """

    _creating = False

    def __init__(self) -> None:
        super().__init__()
        self._tasks: Any = InOrder()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        before, self._creating = self._creating, True
        try:
            return super().create_task(coro, **options)
        finally:
            self._creating = before

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        if self._creating:
            self._tasks.add(task)
            task.add_done_callback(self._on_task_done)
        else:
            super()._on_task_done(task)


class Timeout(asyncio.Timeout):  # type: ignore[misc]  # final to type checkers only
    """asyncio's, that leaves a cancellation alone which was requested before the block.

    As in oxloop (docs/differences.md, python/cpython#134471).
    """

    _task: Any
    _expected = _overtaken = False

    def _is_being_cancelled(self) -> bool:
        waiter = self._task._fut_waiter
        return self._task._must_cancel or (waiter is not None and waiter.cancelled())

    async def __aenter__(self) -> Any:
        entered = await super().__aenter__()
        self._expected = self._is_being_cancelled()
        return entered

    def _on_timeout(self) -> None:
        self._overtaken = self._expected and self._is_being_cancelled()
        super()._on_timeout()  # type: ignore[misc]

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        except TimeoutError:
            if not self._overtaken:
                raise


def timeout(delay: float | None) -> Timeout:
    """`asyncio.timeout`, of the class above."""
    loop = asyncio.get_running_loop()
    return Timeout(None if delay is None else loop.time() + delay)


STANDARD = SimpleNamespace(**{**vars(asyncio), "TaskGroup": TaskGroup})

# What oxloop's names do.
EXPECTED = SimpleNamespace(**{**vars(STANDARD), "timeout": timeout})


class Side(NamedTuple):
    """Whose names a program uses, whose loop it runs on, and which names say what is right."""

    names: Any
    loop: str
    expected: Any


# The first is asyncio; the others are compared with their expected names on asyncio's loop.
SIDES = {
    "asyncio": Side(STANDARD, "asyncio", STANDARD),
    "oxloop": Side(oxloop, "oxloop", EXPECTED),
    "asyncio's names on oxloop's loop": Side(STANDARD, "oxloop", STANDARD),
    "oxloop's names on asyncio's loop": Side(oxloop, "asyncio", EXPECTED),
}

# What the first argument of a script may be, besides the name of a module.
NAMES = {"asyncio": STANDARD, "expected": EXPECTED}


def new_loop(whose: str, tick_s: float | None) -> Any:
    """A loop of asyncio or oxloop on a virtual clock; without ticks, one that jumps."""
    if tick_s is None:
        return JumpingAsyncio() if whose == "asyncio" else Simulated()
    return TickingAsyncio() if whose == "asyncio" else TickingOxloop()


def namespace(name: str) -> Any:
    """asyncio as it is compared here, or a module."""
    return NAMES[name] if name in NAMES else importlib.import_module(name)
