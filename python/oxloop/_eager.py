"""Task factories that start tasks eagerly, on every version (asyncio has them from 3.12 on).

Facts: the first step of an eager task runs within `create_task`; a coroutine that does not suspend
costs no iteration. From 3.14 on `eager_start=False` makes a single task an ordinary one.

Source of behaviour: CPython `Lib/asyncio/tasks.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from oxloop._oxloop import Task

__all__ = ["create_eager_task_factory", "eager_task_factory"]

_T = TypeVar("_T")


def create_eager_task_factory(
    custom_task_constructor: Callable[..., asyncio.Task[Any]],
) -> Callable[..., asyncio.Task[Any]]:
    """Make a task factory for `loop.set_task_factory` that starts its tasks at once.

    Args:
        custom_task_constructor: called as `Task` is, with `eager_start`.
    """

    def factory(
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, _T],
        *,
        eager_start: bool = True,
        **kwargs: Any,
    ) -> asyncio.Task[_T]:
        return custom_task_constructor(coro, loop=loop, eager_start=eager_start, **kwargs)

    return factory


eager_task_factory = create_eager_task_factory(Task)
