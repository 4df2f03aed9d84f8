# What type checkers see of `oxloop`: asyncio's names with asyncio's types, so that a program may
# say `import oxloop as asyncio`, and what is oxloop's own. At run time `__init__.py` chooses.
#
# mypy keeps the first binding of a name, other checkers the last: what is oxloop's own stands
# before asyncio's names and behind them.
# ruff: noqa: F811

import sys
from typing import Final

from oxloop._loop import EventLoop as EventLoop
from oxloop._oxloop import (
    Barrier as Barrier,
    BoundedSemaphore as BoundedSemaphore,
    Condition as Condition,
    Event as Event,
    LifoQueue as LifoQueue,
    Lock as Lock,
    PriorityQueue as PriorityQueue,
    Queue as Queue,
    QueueShutDown as QueueShutDown,
    Semaphore as Semaphore,
)
from oxloop._policy import EventLoopPolicy as EventLoopPolicy
from oxloop._runner import Runner as Runner, new_event_loop as new_event_loop, run as run

from asyncio import *  # type: ignore[assignment]
from asyncio import (
    base_events as base_events,
    constants as constants,
    coroutines as coroutines,
    events as events,
    exceptions as exceptions,
    format_helpers as format_helpers,
    futures as futures,
    locks as locks,
    log as log,
    mixins as mixins,
    protocols as protocols,
    queues as queues,
    runners as runners,
    sslproto as sslproto,
    staggered as staggered,
    streams as streams,
    subprocess as subprocess,
    taskgroups as taskgroups,
    tasks as tasks,
    threads as threads,
    timeouts as timeouts,
    transports as transports,
    trsock as trsock,
)
from asyncio import TaskGroup as TaskGroup

from oxloop._loop import EventLoop as EventLoop
from oxloop._oxloop import (
    Barrier as Barrier,
    BoundedSemaphore as BoundedSemaphore,
    Condition as Condition,
    Event as Event,
    LifoQueue as LifoQueue,
    Lock as Lock,
    PriorityQueue as PriorityQueue,
    Queue as Queue,
    QueueShutDown as QueueShutDown,
    Semaphore as Semaphore,
)
from oxloop._policy import EventLoopPolicy as EventLoopPolicy
from oxloop._runner import Runner as Runner, new_event_loop as new_event_loop, run as run

if sys.version_info < (3, 12):
    from oxloop._eager import (
        create_eager_task_factory as create_eager_task_factory,
        eager_task_factory as eager_task_factory,
    )

__version__: Final[str]

def install() -> None: ...
