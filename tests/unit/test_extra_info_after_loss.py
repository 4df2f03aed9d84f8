"""`get_extra_info("socket")` in and after `connection_lost`: still the socket, as in asyncio.

Log lines and metrics of a lost connection ask for it there. In `connection_lost` the socket is
still open; afterwards the object stays, and is closed.
"""

import asyncio
import socket
from asyncio.trsock import TransportSocket
from typing import Any

import pytest
from recorder import Recorder, next_turns, tcp_pair, with_socket

Loop = asyncio.AbstractEventLoop


class Asks(Recorder):
    """Asks for the socket in `connection_lost`, never before."""

    found: Any = None
    open_then = False
    peername: Any = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.found = self.transport.get_extra_info("socket")
        self.open_then = self.found is not None and self.found.fileno() >= 0
        self.peername = self.transport.get_extra_info("peername")
        super().connection_lost(exc)


def check(protocol: Asks) -> None:
    assert isinstance(protocol.found, TransportSocket)
    assert protocol.open_then
    after = protocol.transport.get_extra_info("socket")
    assert isinstance(after, TransportSocket)
    assert after.fileno() == -1


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_asked_for_the_first_time_after_the_loss(loop: Loop, method: str) -> None:
    """Nobody asked while the connection was there: the object is made now, over nothing."""
    served, client = await tcp_pair()
    getattr(client.transport, method)()
    await client.lost
    await served.lost
    await next_turns()
    for protocol in (served, client):
        sock = protocol.transport.get_extra_info("socket")
        assert isinstance(sock, TransportSocket)
        assert sock.fileno() == -1
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert protocol.transport.get_extra_info("sockname")[0] == "127.0.0.1"


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_both_ends_of_a_connection(loop: Loop, method: str) -> None:
    served, client = await tcp_pair(Asks, Asks)
    getattr(client.transport, method)()
    await client.lost
    await served.lost
    await next_turns()
    for protocol in (served, client):
        assert isinstance(protocol, Asks)
        check(protocol)
        assert protocol.peername[0] == "127.0.0.1"


async def test_a_reset_connection(loop: Loop) -> None:
    server = await loop.create_server(lambda: made[-1], "127.0.0.1", 0)
    made = [Asks()]
    peer = socket.create_connection(server.sockets[0].getsockname())
    await made[0].made
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.close()
    assert isinstance(await made[0].lost, ConnectionResetError)
    await next_turns()
    check(made[0])
    server.close()


async def test_a_given_socket(loop: Loop) -> None:
    transport, protocol, peer = await with_socket(Asks)
    peer.close()
    await protocol.lost
    await next_turns()
    assert isinstance(protocol, Asks)
    check(protocol)
    assert transport.is_closing()
