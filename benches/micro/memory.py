"""Memory: resident bytes per object, as the slope between two numbers of live objects.

Facts that shape it: allocators take memory in steps (arenas, pages) and keep what was freed, so
one figure divided by its count says little. The slope over thousands of objects in a fresh
process does, after a first part that pays for imports, caches and the arenas' edges. Only this
process's memory counts; the kernel's socket buffers are the same for every loop. The clients of
the idle connections live in another process.

What can still go wrong: objects that fill pages left free by the first part cost nothing here.
Look at several rounds.
"""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

from loops import LoopFactory
from micro.idle_clients import IdleClients, allow_connections
from micro.scenario import scenario

TASKS_FIRST, TASKS_LAST = 10_000, 50_000
CONNECTIONS_FIRST, CONNECTIONS_LAST = 1_000, 5_000


def _resident_bytes() -> int:
    gc.collect()
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * os.sysconf("SC_PAGESIZE")


def _slope(first: int, last: int, bytes_first: int, bytes_last: int) -> float:
    return (bytes_last - bytes_first) / (last - first)


@scenario(needs="memory")
def task(factory: LoopFactory) -> float:
    """A pending task: a coroutine that awaits a future of its own (future included)."""

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        pending: list[tuple[asyncio.Future[None], asyncio.Task[None]]] = []

        async def wait(future: asyncio.Future[None]) -> None:
            await future

        async def grow(total: int) -> int:
            while len(pending) < total:
                future = loop.create_future()
                pending.append((future, loop.create_task(wait(future))))
            await asyncio.sleep(0)
            return _resident_bytes()

        # The list's own growth would be counted: give it its size beforehand.
        pending.extend([(loop.create_future(), loop.create_task(asyncio.sleep(0)))] * TASKS_LAST)
        pending.clear()
        first = await grow(TASKS_FIRST)
        last = await grow(TASKS_LAST)
        for future, _ in pending:
            future.set_result(None)
        for _, waiting in pending:
            await waiting
        return _slope(TASKS_FIRST, TASKS_LAST, first, last)

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measure())


async def _slope_of_connections(server: asyncio.AbstractServer) -> float:
    loop = asyncio.get_running_loop()
    clients = IdleClients(server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
    try:
        await loop.run_in_executor(None, clients.grow, CONNECTIONS_FIRST)
        first = _resident_bytes()
        await loop.run_in_executor(None, clients.grow, CONNECTIONS_LAST)
        last = _resident_bytes()
    finally:
        clients.close()
    return _slope(CONNECTIONS_FIRST, CONNECTIONS_LAST, first, last)


class _Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@scenario(needs="memory")
def connection(factory: LoopFactory) -> float:
    """An idle TCP connection of a server, by protocol (a small protocol object included)."""

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Echo, "127.0.0.1", 0, backlog=1024)
        return await _slope_of_connections(server)

    allow_connections(CONNECTIONS_LAST)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measure())


@scenario(needs="memory")
def connection_streams(factory: LoopFactory) -> float:
    """An idle TCP connection of a server, by streams (reader, writer and task included)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def measure() -> float:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        return await _slope_of_connections(server)

    allow_connections(CONNECTIONS_LAST)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measure())
