"""`run`, `Runner`, `new_event_loop`, `get_event_loop`: the ways to start a program on oxloop.

Facts: `asyncio.Runner` already holds everything that is hard here (Ctrl-C, cancelling what is
left, the shutdown of async generators and of the executor), it changes with every version of
Python, and it takes a loop factory.

Decision: subclass the running version's `Runner` and change one thing, the default factory.

What can still go wrong: a policy that the program has set and that makes loops of its own
(uvloop's, say) decides, as in `asyncio.run`; `loop_factory=oxloop.new_event_loop` overrides it.
"""

from __future__ import annotations

import asyncio
import asyncio.unix_events
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from oxloop._loop import EventLoop

_T = TypeVar("_T")
_LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def new_event_loop() -> EventLoop:
    """Make a new oxloop event loop. It is the loop factory to hand to other programs."""
    return EventLoop()


def _policy() -> Any:
    """Return the event loop policy, or None where there are none (3.16 and later)."""
    get_policy: Any = getattr(asyncio.events, "_get_event_loop_policy", None)
    if get_policy is None:
        get_policy = getattr(asyncio.events, "get_event_loop_policy", None)
    return None if get_policy is None else get_policy()


def _makes_loops_of_its_own(policy: Any) -> bool:
    """Whether a policy stands for a certain loop: then that is the program's explicit choice."""
    base: Any = asyncio.unix_events._UnixDefaultEventLoopPolicy
    if type(policy).new_event_loop is not base.new_event_loop:
        return True
    factory = getattr(policy, "_loop_factory", None)
    return factory is not asyncio.unix_events.SelectorEventLoop and factory is not EventLoop


def get_event_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop, or the current one of this thread, as `asyncio.get_event_loop`.

    Where asyncio makes a loop because there is none yet (in the main thread, up to 3.13), it is
    oxloop's; a policy that the program has set decides for itself.

    Raises:
        RuntimeError: there is no current loop.
    """
    running = asyncio._get_running_loop()
    if running is not None:
        return running
    policy = _policy()
    if sys.version_info < (3, 14) and policy is not None and not _makes_loops_of_its_own(policy):
        policy._loop_factory = new_event_loop
        try:
            return policy.get_event_loop()  # type: ignore[no-any-return]
        finally:
            del policy._loop_factory
    return asyncio.get_event_loop()


class Runner(asyncio.Runner):  # type: ignore[misc]  # final to type checkers only
    """`asyncio.Runner` whose loop is oxloop's unless `loop_factory` says otherwise.

    Args:
        debug: the loop's debug mode; None leaves it to the environment, as asyncio does.
        loop_factory: makes the loop; None means `oxloop.new_event_loop`, unless the program has set
            an event loop policy with loops of its own.
    """

    def __init__(
        self, *, debug: bool | None = None, loop_factory: _LoopFactory | None = None
    ) -> None:
        super().__init__(debug=debug, loop_factory=loop_factory or self._new_current_loop)

    def _new_current_loop(self) -> asyncio.AbstractEventLoop:
        policy = _policy()
        if policy is not None and _makes_loops_of_its_own(policy):
            loop: asyncio.AbstractEventLoop = policy.new_event_loop()
        else:
            loop = new_event_loop()
        # As asyncio does without a factory; `close()` takes it back.
        asyncio.set_event_loop(loop)
        self._set_event_loop = True
        return loop


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: _LoopFactory | None = None,
) -> _T:
    """Run a coroutine on a new oxloop event loop and return its result, as `asyncio.run` does.

    Args:
        main: the coroutine (on 3.14 and later any awaitable) to run to its end.
        debug: the loop's debug mode; None leaves it to the environment, as asyncio does.
        loop_factory: makes the loop; None means `oxloop.new_event_loop`. Accepted on every
            version, also on 3.11 where `asyncio.run` has no such argument.

    Raises:
        RuntimeError: a loop runs in this thread already.
        ValueError, TypeError: `main` is no coroutine (which of the two is the version's choice).
    """
    if asyncio._get_running_loop() is not None:
        # Checked before a loop is made, with the text of asyncio.run, on which programs match.
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
