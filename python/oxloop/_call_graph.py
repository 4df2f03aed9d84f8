"""Native tasks and futures in asyncio's call graphs (`asyncio.capture_call_graph`, 3.14).

Facts: asyncio keeps with each future who awaits it, but its C code enters futures of its own
classes only. `gather`, `wait`, `shield` and TaskGroup enter their edges by
`futures.future_add_to_awaited_by`; a task that awaits a future directly is entered by C code.

Decision: these two functions are exchanged, once, for native ones that serve native futures and
leave the rest to asyncio's. That is done when the first loop is made, for an import must not change
asyncio. A native task that awaits a future of asyncio's own classes is found
among the future's callbacks when a graph is made.

What can still go wrong: `gather` and its sisters cannot enter a native task into a future of
asyncio's own classes; that edge is missing.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

from . import _oxloop

__all__ = ["install"]


def _native_waiters(future: Any) -> set[Any]:
    """The native tasks that await `future`, one of asyncio's own."""
    callbacks = getattr(future, "_callbacks", None) or ()
    wakeups = (entry[0] for entry in callbacks)
    waiters = {wakeup.__self__ for wakeup in wakeups if type(wakeup) is _oxloop.TaskWakeup}
    return waiters - {None}


_installed = sys.version_info < (3, 14)


def install() -> None:
    """Exchange the functions of asyncio that make and read the edges. Idempotent."""
    global _installed
    if _installed:
        return
    _installed = True
    # Any: typeshed does not know asyncio's private names.
    futures: Any = importlib.import_module("asyncio.futures")
    graph: Any = importlib.import_module("asyncio.graph")

    for name in ("future_add_to_awaited_by", "future_discard_from_awaited_by"):
        native = getattr(_oxloop, name)
        for module, prefix in ((asyncio, ""), (futures, ""), (futures, "_c_")):
            if hasattr(module, prefix + name):
                setattr(module, prefix + name, native)

    foreign = graph._build_graph_for_future

    def _build_graph_for_future(future: Any, *, limit: int | None = None) -> Any:
        built = foreign(future, limit=limit)
        if type(future) in (_oxloop.Future, _oxloop.Task):
            return built
        known = {above.future for above in built.awaited_by}
        missing = [
            graph._build_graph_for_future(waiter, limit=limit)
            for waiter in _native_waiters(future) - known
        ]
        if not missing:
            return built
        return graph.FutureCallGraph(built.future, built.call_stack, (*built.awaited_by, *missing))

    graph._build_graph_for_future = _build_graph_for_future
