"""Names that programs and their tests go by: of callbacks in reprs, of coroutines, of threads.

asyncio's own say what is right.
"""

import asyncio
import re
import ssl
import threading
from collections.abc import Callable
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop


async def gather(ns: Any, future: asyncio.Future[Any]) -> None:
    await ns.gather(future)


async def wait(ns: Any, future: asyncio.Future[Any]) -> None:
    await ns.wait([future])


async def shield(ns: Any, future: asyncio.Future[Any]) -> None:
    await ns.shield(future)


async def as_completed(ns: Any, future: asyncio.Future[Any]) -> None:
    for each in ns.as_completed([future]):
        await each


async def await_it(ns: Any, future: asyncio.Future[Any]) -> None:
    await future


async def callbacks_while(loop: Loop, function: Callable[..., Any], ns: Any) -> list[str]:
    """The names of a future's callbacks, in its repr, while `function` waits for it."""
    future = loop.create_future()
    task = loop.create_task(function(ns, future))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    shown = re.findall(r"([\w.<>]+)\(\)", repr(future))
    future.set_result(None)
    await task
    # Since 3.14 asyncio keeps its call graphs by further callbacks.
    return [name for name in shown if "awaited_by" not in name]


@pytest.mark.parametrize("function", [gather, wait, shield, as_completed, await_it])
async def test_callbacks(loop: Loop, function: Callable[..., Any]) -> None:
    expected = await callbacks_while(loop, function, asyncio)
    assert len(expected) == 1
    assert await callbacks_while(loop, function, oxloop) == expected


async def test_callbacks_of_a_group_and_of_a_served_connection(loop: Loop) -> None:
    async with oxloop.TaskGroup() as group:
        task = group.create_task(asyncio.sleep(0))
        assert "cb=[TaskGroup._on_task_done()]" in repr(task)

    served: asyncio.Future[str] = loop.create_future()

    async def serve(_: Any, writer: Any) -> None:
        served.set_result(repr(asyncio.current_task()))
        writer.close()

    server = await oxloop.start_server(serve, "127.0.0.1", 0)
    _, writer = await oxloop.open_connection(*server.sockets[0].getsockname())
    assert "StreamReaderProtocol.connection_made.<locals>.callback()" in await served
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("method", ["shutdown_asyncgens", "shutdown_default_executor"])
def test_shutdowns(loop: Loop, method: str) -> None:
    coroutine = getattr(loop, method)()
    assert coroutine.__qualname__ == f"BaseEventLoop.{method}"
    coroutine.close()


async def test_threads_that_look_up_names(loop: Loop) -> None:
    before = set(threading.enumerate())
    await loop.getaddrinfo("localhost", 80)
    new = [thread.name for thread in set(threading.enumerate()) - before]
    assert len(new) == 1
    assert new[0].startswith("asyncio_")


@pytest.mark.parametrize("tls", [False, True])
async def test_the_context_of_a_server(loop: Loop, tls: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    server: Any = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
    assert server._ssl_context is context
    server.close()
    await server.wait_closed()
