"""oxloop: asyncio's event loop, rebuilt in Rust.

This file is the list of public names, nothing else.

    oxloop.run(main())                                     # instead of asyncio.run
    asyncio.run(main(), loop_factory=oxloop.new_event_loop)  # the same, 3.12 and later
    oxloop.install()                                       # asyncio.run now uses oxloop

`EventLoopPolicy` is made at first use: policies leave asyncio in 3.16, and `import oxloop` must
neither warn about them nor need them.
"""

from typing import TYPE_CHECKING, Any

from oxloop._loop import EventLoop
from oxloop._oxloop import Future, Handle, Task, TimerHandle, __version__
from oxloop._runner import Runner, new_event_loop, run
from oxloop._server import Server

if TYPE_CHECKING:
    from oxloop._policy import EventLoopPolicy

__all__ = (
    "EventLoop",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "Runner",
    "Server",
    "Task",
    "TimerHandle",
    "__version__",
    "install",
    "new_event_loop",
    "run",
)


def install() -> None:
    """Make `asyncio.run`, `asyncio.Runner` and `asyncio.new_event_loop` use oxloop.

    Sets the event loop policy of the process. A loop that runs already is not touched.

    Raises:
        RuntimeError: this Python has no event loop policies (3.16 and later); pass
            `loop_factory=oxloop.new_event_loop` to `asyncio.run` there.
    """
    from oxloop import _policy

    _policy.install()


def __getattr__(name: str) -> Any:
    if name == "EventLoopPolicy":
        from oxloop._policy import EventLoopPolicy

        globals()[name] = EventLoopPolicy
        return EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
