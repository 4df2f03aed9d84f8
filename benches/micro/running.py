"""Starting and ending: what a short program, or a test suite, pays each time."""

from __future__ import annotations

import asyncio

from loops import LoopFactory
from micro.scenario import scenario


async def _noop() -> None:
    pass


@scenario(needs="factory")
def run_empty(factory: LoopFactory, count: int) -> None:
    """A Runner entered, one empty coroutine run, and the loop closed."""
    for _ in range(count):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_noop())
