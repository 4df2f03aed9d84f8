"""oxloop: asyncio, rebuilt in Rust.

Every public name of asyncio is here; `install`, `EventLoop` and `EventLoopPolicy` besides.

    oxloop.run(main())                                     # instead of asyncio.run
    asyncio.run(main(), loop_factory=oxloop.new_event_loop)  # the same, 3.12 and later
    oxloop.install()                                       # asyncio.run now uses oxloop
    import oxloop as asyncio                               # all of asyncio's names

`EventLoopPolicy` is made at first use: policies leave asyncio in 3.16, and `import oxloop` must
neither warn about them nor need them. What type checkers see is `__init__.pyi`.
"""

import asyncio as _asyncio
import sys as _sys
from typing import Any as _Any

from oxloop import _interpreter, _namespace
from oxloop._eager import create_eager_task_factory, eager_task_factory
from oxloop._loop import EventLoop
from oxloop._native_combinators import (
    TaskGroup,
    Timeout,
    as_completed,
    create_task,
    ensure_future,
    gather,
    run_coroutine_threadsafe,
    shield,
    sleep,
    timeout,
    timeout_at,
    to_thread,
    wait,
    wait_for,
    wrap_future,
)
from oxloop._oxloop import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Future,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    QueueShutDown,
    Semaphore,
    Task,
    __version__,
)
from oxloop._runner import Runner, get_event_loop, new_event_loop, run
from oxloop._server import Server
from oxloop._stream_processes import create_subprocess_exec, create_subprocess_shell
from oxloop._streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)

if _sys.version_info >= (3, 14):
    from oxloop._oxloop import future_add_to_awaited_by, future_discard_from_awaited_by


def install() -> None:
    """Make `asyncio.run`, `asyncio.Runner` and `asyncio.new_event_loop` use oxloop.

    Sets the event loop policy of the process. A loop that runs already is not touched.

    Raises:
        RuntimeError: this Python has no event loop policies (3.16 and later); pass
            `loop_factory=oxloop.new_event_loop` to `asyncio.run` there.
    """
    from oxloop import _policy

    _policy.install()


def __getattr__(name: str) -> _Any:
    if name == "EventLoopPolicy":
        from oxloop._policy import EventLoopPolicy

        globals()[name] = EventLoopPolicy
        return EventLoopPolicy
    if not name.startswith("__"):
        try:
            return getattr(_asyncio, name)
        except AttributeError:
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


__all__ = _namespace.fill(globals(), "EventLoopPolicy", "__version__")
