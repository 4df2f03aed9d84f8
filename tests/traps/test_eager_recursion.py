"""Eager tasks nested without end: RecursionError at a limit, never an overflow of the stack.

Each eager task runs its first step inside the call that makes it, so that nesting uses the
native stack, of which `sys.setrecursionlimit` says nothing.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from loops import Factory

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12"
)


Start = Callable[[Any, Any], Any]


def by_the_factory(loop: Any, coroutine: Any) -> Any:
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop.create_task(coroutine)


def by_the_class(loop: Any, coroutine: Any) -> Any:
    """No Python frame stands between one step and the next."""
    return kinds[0](coroutine, loop=loop, eager_start=True)


kinds: list[Any] = []


def nested(loop_factory: Factory, start: Start, limit: int) -> None:
    """Nest eager tasks under a recursion limit until one raises RecursionError."""
    deepest = 0
    refused = 0

    async def nest(depth: int) -> None:
        nonlocal deepest, refused
        deepest = max(deepest, depth)
        coroutine = nest(depth + 1)
        try:
            await start(loop, coroutine)
        except RecursionError:
            refused += 1
            coroutine.close()

    loop = loop_factory()
    first = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(first)
    kinds[:] = [type(first)]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    loop.run_until_complete(nest(0))
    sys.setrecursionlimit(before)
    assert deepest > 100
    assert refused >= 1
    assert asyncio.all_tasks(loop) == set()
    loop.set_task_factory(None)
    assert loop.run_until_complete(asyncio.sleep(0, 7)) == 7
    loop.close()


def at_the_usual_limit(loop_factory: Factory) -> None:
    for start in (by_the_factory, by_the_class):
        nested(loop_factory, start, 1000)


def by_the_factory_at_a_limit_of_5000(loop_factory: Factory) -> None:
    nested(loop_factory, by_the_factory, 5000)


def by_the_class_at_a_limit_of_5000(loop_factory: Factory) -> None:
    nested(loop_factory, by_the_class, 5000)


def by_the_factory_beyond_the_stack(loop_factory: Factory) -> None:
    nested(loop_factory, by_the_factory, 200_000)


def by_the_class_beyond_the_stack(loop_factory: Factory) -> None:
    nested(loop_factory, by_the_class, 200_000)


@pytest.mark.parametrize(
    "scenario",
    [
        at_the_usual_limit,
        by_the_factory_at_a_limit_of_5000,
        by_the_class_at_a_limit_of_5000,
        by_the_factory_beyond_the_stack,
        by_the_class_beyond_the_stack,
    ],
)
def test_trap(in_child: Any, scenario: Any) -> None:
    in_child(scenario)
