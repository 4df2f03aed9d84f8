"""Many half-done handshakes at once: a good client gets through, the others run out of time."""

import asyncio
import gc
import os
import socket
from typing import Any

import pytest
from recorder import Recorder, next_turns
from tls_peer import Peer, client_context, server_context, socket_pair

Loop = asyncio.AbstractEventLoop

CROWD = 200


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def connected(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    return sock


async def ended(sock: socket.socket) -> None:
    """Wait until the other side has hung up, however it did."""
    try:
        while await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            pass
    except ConnectionResetError:
        pass


async def talk(loop: Loop, address: tuple[str, int]) -> None:
    """A whole conversation of a client that does everything as it should."""
    _, client = await loop.create_connection(
        Recorder, *address, ssl=client_context(), server_hostname="localhost"
    )
    client.transport.write(b"hello")
    assert await client.wait_received(5) == b"hello"
    client.transport.close()
    assert await client.lost is None


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


def pending_timers(loop: Any) -> int:
    return sum(not timer.cancelled() for timer in loop._scheduled)


@pytest.mark.parametrize("ending", ["by the timeout", "by the server"])
async def test_a_crowd_that_never_finishes_its_handshake(loop: Loop, ending: str) -> None:
    gc.collect()
    before, timers_before = descriptors(), pending_timers(loop)
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Echo())
        return made[-1]

    timeout = 1.0 if ending == "by the timeout" else 60.0
    server: Any = await loop.create_server(
        factory, "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=timeout, backlog=CROWD
    )
    address = server.sockets[0].getsockname()
    hello = Peer(socket_pair()[0]).hello()
    crowd = []
    for number in range(CROWD):
        sock = await connected(address)
        # A third is silent, a third sends a byte, a third all but the last byte.
        await loop.sock_sendall(sock, hello[: (0, 1, len(hello) - 1)[number % 3]])
        crowd.append(sock)
    while len(made) < CROWD:
        await asyncio.sleep(0)
    started = loop.time()
    await asyncio.gather(*(talk(loop, address) for _ in range(3)))
    if ending == "by the server":
        # The crowd is no hindrance to an end either: those who wait hang up.
        assert loop.time() - started < 30
        for sock in crowd:
            sock.close()
    else:
        await asyncio.gather(*map(ended, crowd))
        for sock in crowd:
            sock.close()
    assert sorted(protocol.events[:2] for protocol in made) == [[]] * CROWD + [["made", "data"]] * 3
    server.close()
    await server.wait_closed()
    while pending_timers(loop) > timers_before or descriptors() > before:
        await asyncio.sleep(0)
    await next_turns(3)
    assert len(asyncio.all_tasks()) == 1
