"""Makes native tasks visible to `asyncio.all_tasks()`.

Facts: asyncio knows its tasks by WeakSets (and, from 3.14 on, by a list of C tasks). Registering a
task there costs several hundred nanoseconds. The loop holds its pending tasks itself, strongly.

Decision: the class of asyncio's own WeakSet is exchanged, once, for a subclass whose iteration also
yields the pending native tasks of every oxloop loop. `all_tasks()` iterates the set and keeps the
tasks of its loop that are not done, so the native ones come out in the right place, also for code
that imported `all_tasks` before.

What can still go wrong: a future Python may keep its tasks elsewhere; then `install` finds no set,
and native tasks are missing from `all_tasks()` until this module learns of it; the tests would
say so.
"""

from __future__ import annotations

import asyncio.tasks
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

from . import _oxloop

# A dict of references: a WeakSet costs a program that makes many loops ten times as much.
_loops: dict[int, weakref.ref[Any]] = {}


def track(loop: Any) -> None:
    """Include the tasks of `loop` from now on, for as long as it lives."""
    number = id(loop)
    _loops[number] = weakref.ref(loop, lambda gone: _forget(number, gone))


def _forget(number: int, gone: weakref.ref[Any]) -> None:
    if _loops.get(number) is gone:
        del _loops[number]


def _tracked() -> list[Any]:
    loops = [reference() for reference in list(_loops.values())]
    return [loop for loop in loops if loop is not None]


class TaskSet(weakref.WeakSet):  # type: ignore[type-arg]
    """asyncio's set of tasks, continued by the native tasks that are pending."""

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        for loop in _tracked():
            yield from loop._pending_tasks()


def _task_sets() -> list[weakref.WeakSet[Any]]:
    """The WeakSets in which the running asyncio keeps foreign tasks."""
    name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
    sets = [getattr(asyncio.tasks, name)]
    if sys.version_info >= (3, 14):
        # That one is for the tasks written in Python alone.
        native = sys.modules["_asyncio"]
        sets += [ref for ref in gc.get_referents(native) if type(ref) is weakref.WeakSet]
    return sets


def install() -> None:
    """Exchange the class of asyncio's task sets. Idempotent."""
    for tasks in _task_sets():
        if type(tasks) is weakref.WeakSet:
            tasks.__class__ = TaskSet


def after_fork_in_child() -> None:
    """Every loop made so far is the parent's: let go of what is shared with it."""
    _oxloop._after_fork_in_child()
    for loop in _tracked():
        loop._disown()
