"""A transport that outlives its loop: it says so when it is closed, and lets its descriptor go."""

import asyncio
import gc
import os
import socket
from typing import Any

import loops
import pytest
from loops import Factory

Loop = asyncio.AbstractEventLoop

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("method", ["close", "abort"])
def test_it_raises(loop: Loop, method: str) -> None:
    ours, peer = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(transport, method)()
    ours.close()
    peer.close()


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


class Served(asyncio.Protocol):
    """Hands its transport to the test; holds nothing itself, so that no cycle arises."""

    accepted: list[asyncio.BaseTransport] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.accepted.append(transport)


async def connect() -> asyncio.BaseTransport:
    """Connect to a server; the transport of the other end is in `Served.accepted` afterwards."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Served, "127.0.0.1", 0)
    client, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    while not Served.accepted:
        await asyncio.sleep(0)
    server.close()
    return client


def leave_two_connections(loop_factory: Factory, method: str) -> None:
    """End a loop with both ends of a TCP connection open, then end these."""
    loop = loop_factory()
    Served.accepted.append(loop.run_until_complete(connect()))
    loop.close()
    while Served.accepted:
        try:
            getattr(Served.accepted.pop(), method)()
        except RuntimeError as error:
            assert str(error) == "Event loop is closed"


def no_descriptor_stays(loop_factory: Factory) -> None:
    gc.disable()
    leave_two_connections(loop_factory, "close")
    before = descriptors()
    for method in ("close", "abort"):
        for _ in range(5):
            leave_two_connections(loop_factory, method)
    assert descriptors() == before


@only_ours
def test_no_descriptor_stays(in_child: Any) -> None:
    """On oxloop only: those of Python 3.11 wait for the garbage collector, which is off here."""
    in_child(no_descriptor_stays)
