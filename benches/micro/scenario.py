"""What a micro benchmark is, and the list of all of them.

A scenario is a coroutine function that performs exactly `count` operations on the running loop,
or (`needs="factory"`) a plain function that gets the loop's factory, for operations that make
loops, or (`needs="memory"`) a function that gives bytes per object. Its docstring says what one
operation is. Scenarios use asyncio's public names only: what is measured is what an unmodified
program gets.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Needs = Literal["loop", "factory", "memory"]
Clock = Literal["cpu", "wall"]

# In the order of the report's rows.
_MODULES = (
    "micro.callbacks",
    "micro.timers",
    "micro.tasks",
    "micro.futures",
    "micro.combinators",
    "micro.sync",
    "micro.timeouts",
    "micro.threads",
    "micro.readers",
    "micro.lines",
    "micro.running",
    "micro.memory",
)


@dataclass(frozen=True)
class Scenario:
    """A registered scenario.

    `batch` is the smallest count that it can perform: counts are multiples of it. `clock` says
    which of the two times tells the loops apart; `wall` where other threads do a part of the work.
    """

    name: str
    run: Callable[..., Any]
    needs: Needs
    batch: int
    clock: Clock

    @property
    def operation(self) -> str:
        """One operation, in words: the first line of the docstring."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


_registered: dict[str, Scenario] = {}


def scenario(
    *, needs: Needs = "loop", batch: int = 1, clock: Clock = "cpu"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as a scenario under its own name."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        name = run.__name__
        if name in _registered:
            raise ValueError(f"two scenarios are called {name}")
        if not run.__doc__:
            raise ValueError(f"scenario {name} does not say what one operation is")
        _registered[name] = Scenario(name, run, needs, batch, clock)
        return run

    return register


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name, in the order of the report."""
    for module in _MODULES:
        importlib.import_module(module)
    return dict(_registered)
