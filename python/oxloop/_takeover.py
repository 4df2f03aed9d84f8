"""What `oxloop run` changes in asyncio, in the program's process and in its Python children.

Facts:
- Programs get loops in three ways: from the policy (`asyncio.run`), from a policy class that they
  instantiate or subclass themselves, and from the package's names `asyncio.SelectorEventLoop` and
  `asyncio.EventLoop` (uvicorn does the last).
- The same names serve as base classes and in `isinstance` checks, and `SelectorEventLoop` takes
  a selector, which only asyncio's own loop can use.

Decision:
- The default policy's factory becomes ours: every policy that inherits it makes our loops, also
  after `set_event_loop_policy(None)`. A policy with a factory of its own (uvloop's, say) is the
  program's explicit choice and stays.
- The two package names become one class below asyncio's. Called without a selector it makes our
  loop; called with one, or subclassed, it is asyncio's. `isinstance` accepts both loops.
- asyncio's own modules keep their classes; `asyncio.Task` and `asyncio.Future` are not touched.
- Our class is imported when a loop is wanted: asyncio may be imported, and so taken over, by
  oxloop itself on the way to that class.

What can still go wrong: a library that takes `isinstance(loop, asyncio.SelectorEventLoop)` as
leave to use private attributes (`loop._selector`) gets an AttributeError from our loop.
`type(loop) is asyncio.SelectorEventLoop` is false.
"""

from __future__ import annotations

import asyncio
import asyncio.unix_events
from typing import Any

_taken = False


def _native() -> type[asyncio.AbstractEventLoop]:
    from oxloop._loop import EventLoop

    return EventLoop


def _new_event_loop() -> asyncio.AbstractEventLoop:
    return _native()()


def _selector_event_loop_class(original: type) -> type:
    """Make the class that stands for `asyncio.SelectorEventLoop`.

    Args:
        original: asyncio's class, which stays the base for subclasses and explicit selectors.
    """

    class _Choice(type(original)):  # type: ignore[misc]
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            if cls is SelectorEventLoop and not any(args) and not any(kwargs.values()):
                return _new_event_loop()
            return super().__call__(*args, **kwargs)

        def __instancecheck__(cls, instance: Any) -> bool:
            if cls is SelectorEventLoop:
                return isinstance(instance, (original, _native()))
            return bool(super().__instancecheck__(instance))

        def __subclasscheck__(cls, subclass: type) -> bool:
            if cls is SelectorEventLoop:
                return issubclass(subclass, (original, _native()))
            return bool(super().__subclasscheck__(subclass))

    class SelectorEventLoop(original, metaclass=_Choice):  # type: ignore[misc]
        __doc__ = original.__doc__
        __module__ = original.__module__

    SelectorEventLoop.__name__ = original.__name__
    SelectorEventLoop.__qualname__ = original.__qualname__
    return SelectorEventLoop


def take_over() -> None:
    """Make the loops of this process oxloop's, however the program asks asyncio for them.

    Calling it again changes nothing.
    """
    global _taken
    if _taken:
        return
    _taken = True
    policy: Any = getattr(asyncio.unix_events, "_UnixDefaultEventLoopPolicy", None)
    if policy is not None:
        policy._loop_factory = staticmethod(_new_event_loop)
    else:
        # 3.16 and later: no policies; asyncio.new_event_loop makes an events.EventLoop.
        asyncio.new_event_loop = asyncio.events.new_event_loop = _new_event_loop

    stands_for = _selector_event_loop_class(asyncio.unix_events.SelectorEventLoop)
    for name in ("SelectorEventLoop", "EventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, stands_for)
