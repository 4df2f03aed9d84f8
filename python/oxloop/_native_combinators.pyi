# The types of the native combinators.

import asyncio
from types import TracebackType
from typing import Any, Self, TypeVar, final, overload

from typing_extensions import disjoint_base

from oxloop._oxloop import Future, _Coroutine

_T = TypeVar("_T")

__all__ = [
    "Timeout",
    "TaskGroup",
    "_AsCompletedIterator",
    "_GatheringFuture",
    "_ShieldingFuture",
    "_DoneCallback",
    "_Waiting",
    "sleep",
    "create_task",
    "ensure_future",
    "gather",
    "wait",
    "wait_for",
    "as_completed",
    "shield",
    "timeout",
    "timeout_at",
    "wrap_future",
    "run_coroutine_threadsafe",
    "to_thread",
    "_Chain",
]

@overload
def sleep(delay: float) -> _Coroutine[None]: ...
@overload
def sleep(delay: float, result: _T) -> _Coroutine[_T]: ...

# As asyncio types them.
create_task = asyncio.create_task
ensure_future = asyncio.ensure_future
gather = asyncio.gather
wait = asyncio.wait
wait_for = asyncio.wait_for
as_completed = asyncio.as_completed
shield = asyncio.shield
wrap_future = asyncio.wrap_future
run_coroutine_threadsafe = asyncio.run_coroutine_threadsafe
to_thread = asyncio.to_thread

def timeout(delay: float | None) -> Timeout: ...
def timeout_at(when: float | None) -> Timeout: ...

# Combinators: asyncio's, with `TaskGroup.cancel` on every version.
@disjoint_base
class Timeout:
    def __init__(self, when: float | None) -> None: ...
    def when(self) -> float | None: ...
    def reschedule(self, when: float | None) -> None: ...
    def expired(self) -> bool: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None: ...

@disjoint_base
class TaskGroup(asyncio.TaskGroup):
    def cancel(self) -> None: ...

@final
class _AsCompletedIterator:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Any: ...

# What `gather` and `shield` return, and what follows futures.
@final
class _GatheringFuture(Future[Any]):
    def cancel(self, msg: Any | None = None) -> bool: ...

@final
class _ShieldingFuture(Future[Any]):
    def cancel(self, msg: Any | None = None) -> bool: ...
    def _let_go(self) -> None: ...

@final
class _DoneCallback:
    def __call__(self, future: Any) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    @property
    def __self__(self) -> Any: ...
    @property
    def __qualname__(self) -> str: ...

@final
class _Chain:
    def __call__(self, _done: Any = None) -> None: ...
    @property
    def __qualname__(self) -> str: ...

@final
class _Waiting: ...
