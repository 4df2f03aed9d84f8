"""Connections that come faster than they are served: timers and everybody else get their turn."""

import asyncio
import resource
import socket
from pathlib import Path
from typing import Any

from loops import Factory

Loop = asyncio.AbstractEventLoop

# No more than the kernel lets stand in a queue.
CLIENTS = min(500, int(Path("/proc/sys/net/core/somaxconn").read_text()))
TICKS = 20


class Greet(asyncio.Protocol):
    served = 0

    def connection_made(self, transport: Any) -> None:
        Greet.served += 1
        transport.write(b"hello")
        transport.close()


class Ticking:
    """A timer of 10 ms that starts anew each time."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.count = 0
        self.timer = loop.call_later(0.01, self.tick)

    def tick(self) -> None:
        self.count += 1
        self.timer = self.loop.call_later(0.01, self.tick)


async def visit(loop: Loop, address: tuple[str, int]) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        received = b""
        while more := await loop.sock_recv(sock, 100):
            received += more
        assert received == b"hello"


async def all_at_once(loop: Loop) -> None:
    """The whole crowd stands in the queue before the loop looks at it, three times."""
    ticking = Ticking(loop)
    server = await loop.create_server(Greet, "127.0.0.1", 0, backlog=CLIENTS)
    address = server.sockets[0].getsockname()
    for _ in range(3):
        before, ticks = Greet.served, ticking.count
        crowd = [socket.create_connection(address, timeout=20) for _ in range(CLIENTS)]
        assert Greet.served == before
        while Greet.served < before + CLIENTS or ticking.count == ticks:
            await asyncio.sleep(0)
        for sock in crowd:
            with sock:
                assert sock.recv(100, socket.MSG_WAITALL) == b"hello"
        assert ticking.count > ticks
    ticking.timer.cancel()
    server.close()


async def again_and_again(loop: Loop) -> None:
    """Whoever was served comes again at once, until the timer has been served often enough."""
    ticking = Ticking(loop)
    server = await loop.create_server(Greet, "127.0.0.1", 0, backlog=CLIENTS)
    address = server.sockets[0].getsockname()

    async def keep_visiting() -> int:
        visits = 0
        while visits == 0 or ticking.count < TICKS:
            await visit(loop, address)
            visits += 1
        return visits

    before = Greet.served
    visits = await asyncio.gather(*(keep_visiting() for _ in range(CLIENTS)))
    assert Greet.served == before + sum(visits)
    ticking.timer.cancel()
    server.close()


def storms(loop_factory: Factory) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    loop = loop_factory()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.run_until_complete(asyncio.wait_for(all_at_once(loop), 20))
    loop.run_until_complete(asyncio.wait_for(again_and_again(loop), 20))
    loop.close()
    assert reports == []


def test_an_accept_storm_leaves_timers_their_turn(in_child: Any) -> None:
    in_child(storms)
