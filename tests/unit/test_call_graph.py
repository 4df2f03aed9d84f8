"""`asyncio.capture_call_graph` on the loop's own tasks and futures (Python 3.14)."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")


def names(graph: Any) -> Any:
    """A graph as the names of its tasks: `(name, {graph of each waiter})`."""
    future = graph.future
    name = future.get_name() if isinstance(future, asyncio.Task) else "future"
    return name, frozenset(names(above) for above in graph.awaited_by)


async def waiting(future: Awaitable[Any]) -> None:
    await future


async def graph_of(future: Any) -> Any:
    """The graph of `future` once every task has got as far as it gets."""
    for _ in range(5):
        await asyncio.sleep(0)
    return names(asyncio.capture_call_graph(future))  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["the loop's", "asyncio's"])
async def test_tasks_that_await_a_future(loop: Loop, kind: str) -> None:
    future: Any = loop.create_future() if kind == "the loop's" else asyncio.Future()
    inner = [loop.create_task(waiting(future), name=name) for name in ("a", "b")]
    outer = loop.create_task(waiting(inner[0]), name="outer")
    a = ("a", frozenset({("outer", frozenset())}))
    assert await graph_of(future) == ("future", frozenset({a, ("b", frozenset())}))
    future.set_result(None)
    await outer
    await inner[1]
    assert not future._asyncio_awaited_by
    assert not inner[0]._asyncio_awaited_by


async def test_asyncios_own_task_awaits_the_loops_future(loop: Loop) -> None:
    future = loop.create_future()
    task = asyncio.Task(waiting(future), loop=loop, name="asyncio's own")
    assert await graph_of(future) == ("future", frozenset({("asyncio's own", frozenset())}))
    future.set_result(None)
    await task


async def by_gather(future: asyncio.Future[None]) -> None:
    await asyncio.gather(future)


async def by_wait(future: asyncio.Future[None]) -> None:
    await asyncio.wait([future])


async def by_shield(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)


async def by_as_completed(future: asyncio.Future[None]) -> None:
    for each in asyncio.as_completed([future]):
        await each


@pytest.mark.parametrize("how", [by_gather, by_wait, by_shield, by_as_completed])
async def test_who_waits_indirectly(loop: Loop, how: Callable[[asyncio.Future[None]], Any]) -> None:
    future = loop.create_future()
    task = loop.create_task(how(future), name="waiter")
    assert await graph_of(future) == ("future", frozenset({("waiter", frozenset())}))
    future.set_result(None)
    await task
    assert not future._asyncio_awaited_by  # type: ignore[attr-defined]


async def test_a_task_group_awaits_its_tasks(loop: Loop) -> None:
    future = loop.create_future()

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(waiting(future), name="member")

    task = loop.create_task(group(), name="group")
    member = ("member", frozenset({("group", frozenset())}))
    assert await graph_of(future) == ("future", frozenset({member}))
    future.set_result(None)
    await task


async def test_edges_are_kept_once_and_discarded(loop: Loop) -> None:
    future, waiter = loop.create_future(), loop.create_future()
    add = asyncio.future_add_to_awaited_by  # type: ignore[attr-defined]
    discard = asyncio.future_discard_from_awaited_by  # type: ignore[attr-defined]
    add(future, waiter)
    add(future, waiter)
    assert future._asyncio_awaited_by == {waiter}  # type: ignore[attr-defined]
    assert not future._callbacks  # type: ignore[attr-defined]
    discard(future, waiter)
    discard(future, waiter)
    assert not future._asyncio_awaited_by  # type: ignore[attr-defined]
    add(future, "no future")
    assert not future._asyncio_awaited_by  # type: ignore[attr-defined]


async def test_the_stack_of_the_current_task(loop: Loop) -> None:
    async def innermost() -> str:
        return asyncio.format_call_graph()  # type: ignore[attr-defined, no-any-return]

    async def middle() -> str:
        return await innermost()

    text = await loop.create_task(middle(), name="shown")
    assert "shown" in text
    assert text.index("innermost()") < text.index("middle()")
