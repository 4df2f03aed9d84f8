"""Forks of a busy server: the parent loses no byte and no connection, whatever its children do.

The server, its clients and the forks are in one thread. Between any two pieces of data a child may
be made, by a callback or by a task; it ends at once, runs a loop of its own, or is a further client
of its parent.
"""

import asyncio
import os
import signal
import socket
import warnings
from collections.abc import Callable
from typing import Any

from loops import Factory
from recorder import Recorder
from tls_peer import client_context, server_context

Loop = asyncio.AbstractEventLoop

CHILDREN = 30
CLIENTS = 6
PIECE = bytes(range(251)) * 80


class Echo(asyncio.Protocol):
    """Sends everything back, and stops reading while the other end does not read."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        connections.discard(self)


connections: set[Echo] = set()


def fork(child: Callable[[], object]) -> int:
    """Fork; the child runs `child` and ends, with status 0 if that succeeded. Its number."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(20)
            child()
            status = 0
        finally:
            os._exit(status)
    return pid


def fork_into(made: asyncio.Future[int], child: Callable[[], object]) -> None:
    made.set_result(fork(child))


def end_at_once() -> None:
    pass


def run_a_loop(loop_factory: Factory) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        _, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        theirs.send(b"in the child")
        assert await protocol.wait_received(12) == b"in the child"
        await asyncio.sleep(0.001)

    loop = loop_factory()
    loop.run_until_complete(main())
    loop.close()


def be_a_client(loop_factory: Factory, address: tuple[str, int]) -> None:
    async def main() -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(PIECE)
        assert await reader.readexactly(len(PIECE)) == PIECE
        writer.close()
        await writer.wait_closed()

    loop = loop_factory()
    loop.run_until_complete(main())
    loop.close()


async def keep_talking(client: Recorder, end: asyncio.Event) -> int:
    """Send piece after piece, three ahead of the echo, until `end`. The number of pieces."""
    sent = 0
    while not end.is_set() or sent < 10:
        client.transport.write(PIECE)
        sent += 1
        await client.wait_received(max(sent - 3, 0) * len(PIECE))
    await client.wait_received(sent * len(PIECE))
    return sent


async def serve_and_fork(loop: Loop, loop_factory: Factory) -> None:
    plain = await loop.create_server(Echo, "127.0.0.1", 0)
    secure = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
    address = plain.sockets[0].getsockname()
    tls: dict[str, Any] = {"ssl": client_context(), "server_hostname": "localhost"}
    clients: list[Recorder] = []
    for number in range(CLIENTS):
        server, options = ((plain, {}), (secure, tls))[number % 2]
        where = server.sockets[0].getsockname()
        clients.append((await loop.create_connection(Recorder, *where, **options))[1])
    end = asyncio.Event()
    talking = [loop.create_task(keep_talking(client, end)) for client in clients]

    kinds: list[Callable[[], object]] = [
        end_at_once,
        lambda: run_a_loop(loop_factory),
        lambda: be_a_client(loop_factory, address),
    ]
    alive: set[int] = set()
    for number in range(CHILDREN):
        child = kinds[number % 3]
        before = sum(len(client.received) for client in clients)
        if number % 2:
            made: asyncio.Future[int] = loop.create_future()
            loop.call_soon(fork_into, made, child)
            alive.add(await made)
        else:
            alive.add(fork(child))
        # The load goes on while the child is there.
        while sum(len(client.received) for client in clients) < before + 10 * len(PIECE):
            await asyncio.sleep(0)
        reap(alive)
    while alive:
        await asyncio.sleep(0.001)
        reap(alive)
    assert all(not client.lost.done() for client in clients)
    end.set()
    for client, count in zip(clients, await asyncio.gather(*talking)):
        assert client.received == PIECE * count
        assert "eof" not in client.events
        client.transport.close()
        assert await client.lost is None
    while connections:
        await asyncio.sleep(0)
    plain.close()
    secure.close()


def reap(alive: set[int]) -> None:
    """Take leave of the children that have ended; all of them must have succeeded."""
    for pid in list(alive):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            alive.discard(pid)
            assert status == 0, f"a child ended with {os.waitstatus_to_exitcode(status)}"


def forks_under_load(loop_factory: Factory) -> None:
    # Python 3.12 and later warn of a fork in a process with several threads.
    warnings.simplefilter("error", DeprecationWarning)
    loop = loop_factory()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.run_until_complete(asyncio.wait_for(serve_and_fork(loop, loop_factory), 40))
    loop.close()
    assert reports == []


def test_forks_under_load(in_child: Any) -> None:
    in_child(forks_under_load)
