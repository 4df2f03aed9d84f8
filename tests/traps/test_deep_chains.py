"""Chains of thousands of objects: RecursionError as in asyncio, never an overflow of the stack."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import oxloop
import pytest

Factory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[..., Any]
DEEP = 30_000


def awaited_coroutines(make_loop: Factory) -> None:
    async def leaf() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        chain: Any = leaf()
        for _ in range(DEEP):
            chain = oxloop.wait_for(chain, None)
        try:
            await chain
        except RecursionError:
            print("RecursionError", flush=True)

    asyncio.Runner(loop_factory=make_loop).run(main())
    os._exit(0)


def cancelled_tasks(make_loop: Factory) -> None:
    async def wait_for(other: Any) -> None:
        await other

    async def main() -> None:
        loop = asyncio.get_running_loop()
        chain: Any = loop.create_future()
        tasks = []
        for _ in range(2 * DEEP):
            chain = loop.create_task(wait_for(chain))
            tasks.append(chain)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            chain.cancel()
        except RecursionError:
            print("RecursionError", flush=True)
        os._exit(0)

    asyncio.Runner(loop_factory=make_loop).run(main())


def gathered_futures(make_loop: Factory) -> None:
    async def main() -> None:
        chain: Any = asyncio.get_running_loop().create_future()
        for _ in range(2 * DEEP):
            chain = oxloop.gather(chain)
        try:
            chain.cancel()
        except RecursionError:
            print("RecursionError", flush=True)
        os._exit(0)

    asyncio.Runner(loop_factory=make_loop).run(main())


@pytest.mark.parametrize("scenario", [awaited_coroutines, cancelled_tasks, gathered_futures])
def test_what_is_too_deep_raises(in_child: Run, loop_name: str, scenario: Any) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio itself overflows in some versions")
    assert in_child(scenario).stdout == "RecursionError\n"


def dying_chains(make_loop: Factory) -> None:
    loop = make_loop()
    handle: Any = None
    for _ in range(2 * DEEP):
        handle = loop.call_later(1000, print, handle)
    loop.close()
    del handle

    async def leaf() -> None: ...

    chain: Any = leaf()
    for _ in range(2 * DEEP):
        chain = oxloop.wait_for(chain, None)
    sys.stderr.close()  # each of them says that it was never awaited
    del chain
    print("gone", flush=True)
    os._exit(0)


def test_long_chains_die(in_child: Run, loop_name: str) -> None:
    if loop_name == "asyncio":
        pytest.skip("the coroutines are oxloop's")
    assert in_child(dying_chains).stdout == "gone\n"
