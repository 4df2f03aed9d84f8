"""StopIteration of a program's code within a coroutine of ours is an error, never its result.

asyncio's coroutines are `async def` functions, out of which it comes as RuntimeError (PEP 479).
"""

import asyncio
from types import ModuleType
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop

in_both = pytest.mark.parametrize("ns", [asyncio, oxloop], ids=["asyncio", "oxloop"])


def raising(*_: Any, **__: Any) -> Any:
    raise StopIteration("of the program")


class RaisingAwaitable:
    def __await__(self) -> Any:
        raise StopIteration("of the program")


async def in_a_predicate(ns: Any) -> None:
    condition = ns.Condition()
    async with condition:
        await condition.wait_for(lambda: next(iter([])))


async def in_put(ns: Any) -> None:
    queue = type("Queue", (ns.Queue,), {"_put": raising})()
    await queue.put(1)


async def in_get(ns: Any) -> None:
    queue = type("Queue", (ns.Queue,), {"_get": raising})()
    queue.put_nowait(1)
    await queue.get()


async def in_release(ns: Any) -> None:
    async with type("Lock", (ns.Lock,), {"release": raising})():
        raise ValueError("must not be swallowed")


async def in_an_await(ns: Any) -> None:
    await ns.wait_for(RaisingAwaitable(), 10)


async def in_a_reader(ns: Any) -> None:
    reader = ns.StreamReader()
    reader.set_exception(StopIteration("of the program"))
    async for _ in reader:
        raise AssertionError("a line of nothing")


async def in_a_started_wait(ns: Any) -> None:
    waiting = ns.Lock()
    await waiting.acquire()
    acquiring = waiting.acquire()
    acquiring.send(None)
    acquiring.throw(StopIteration("of the program"))


@in_both
@pytest.mark.parametrize(
    "case",
    [
        in_a_predicate,
        in_put,
        in_get,
        in_release,
        in_an_await,
        in_a_reader,
        in_a_started_wait,
    ],
)
async def test_it_comes_out_as_an_error(loop: Loop, ns: ModuleType, case: Any) -> None:
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        await case(ns)
    assert isinstance(caught.value.__cause__, StopIteration)
    assert isinstance(caught.value.__context__, StopIteration)


@in_both
async def test_one_thrown_before_the_start_is_as_python_has_it(loop: Loop, ns: ModuleType) -> None:
    async def written() -> None:
        pass

    seen = []
    for coroutine in (written(), ns.sleep(0)):
        try:
            coroutine.throw(StopIteration("of the program"))
        except (RuntimeError, StopIteration) as error:
            seen.append(type(error))
    assert seen[0] is seen[1]
