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


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_reading_does_not_go_on(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    transport.pause_reading()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.resume_reading()
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


class Silent(asyncio.DatagramProtocol):
    """Fails if it is told anything."""

    def error_received(self, exc: Exception) -> None:
        raise AssertionError(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        raise AssertionError(exc)


def datagrams_after_the_loop(loop: Loop, **options: Any) -> Any:
    """A datagram transport whose loop is closed."""
    making = loop.create_datagram_endpoint(Silent, **options)
    transport, _ = loop.run_until_complete(making)
    loop.close()
    return transport


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("is_fixed", [False, True])
def test_datagrams_are_still_sent(loop: Loop, is_fixed: bool) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        address = peer.getsockname()
        where: Any = {"remote_addr": address} if is_fixed else {"local_addr": ("127.0.0.1", 0)}
        transport = datagrams_after_the_loop(loop, **where)
        transport.sendto(b"bye", None if is_fixed else address)
        assert peer.recv(10) == b"bye"
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()


@only_ours
@pytest.mark.parametrize("method", ["close", "abort"])
def test_a_datagram_transport_lets_its_descriptor_go(loop: Loop, method: str) -> None:
    """asyncio's stays open until it is collected."""
    transport = datagrams_after_the_loop(loop, local_addr=("127.0.0.1", 0))
    address = transport.get_extra_info("sockname")
    with socket.socket(type=socket.SOCK_DGRAM) as successor:
        with pytest.raises(OSError):
            successor.bind(address)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            getattr(transport, method)()
        successor.bind(address)
        # Afterwards as after any end.
        transport.close()
        transport.abort()
        transport.sendto(b"nowhere", address)
        assert transport.is_closing()
        assert not transport.is_reading()
        assert "closed" in repr(transport)


@only_ours
def test_a_datagram_without_room_is_dropped(loop: Loop) -> None:
    """asyncio raises RuntimeError for the first, and queues the rest for nobody."""
    ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
    transport = datagrams_after_the_loop(loop, sock=ours)
    with peer:
        for _ in range(1000):
            transport.sendto(b"datagram")
        assert transport.get_write_buffer_size() == 0
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_paused_datagrams_do_not_go_on(loop: Loop) -> None:
    async def paused() -> Any:
        transport, _ = await loop.create_datagram_endpoint(Silent, local_addr=("127.0.0.1", 0))
        transport.pause_reading()
        return transport

    transport = loop.run_until_complete(paused())
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.resume_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
