"""Datagram endpoints: what arrives, flow control, errors, addresses, closing."""

import asyncio
import contextvars
import gc
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop

# From 3.13 on empty datagrams are sent, and headers are counted.
COUNTS_HEADERS = sys.version_info >= (3, 13)


class Datagrams(asyncio.DatagramProtocol):
    """Writes down what happens; `on_datagram(self)` runs after each datagram."""

    transport: asyncio.DatagramTransport

    def __init__(self, on_datagram: Callable[["Datagrams"], None] | None = None) -> None:
        self.events: list[str] = []
        self.received: list[tuple[bytes, Any]] = []
        self.failures: list[Exception] = []
        self.lost: asyncio.Future[BaseException | None] = asyncio.Future()
        self._changed = asyncio.Event()
        self._on_datagram = on_datagram

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._note("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))
        self._note("datagram")
        if self._on_datagram is not None:
            self._on_datagram(self)

    def error_received(self, exc: Exception) -> None:
        self.failures.append(exc)
        self._note("error")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._note("lost")
        self.lost.set_result(exc)

    async def wait_for(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def payloads(self, count: int) -> list[bytes]:
        await self.wait_for(lambda: len(self.received) >= count)
        return [data for data, _ in self.received]


async def endpoint(
    on_datagram: Callable[[Datagrams], None] | None = None, **options: Any
) -> tuple[asyncio.DatagramTransport, Datagrams]:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(lambda: Datagrams(on_datagram), **options)


async def bound(
    on_datagram: Callable[[Datagrams], None] | None = None,
) -> tuple[asyncio.DatagramTransport, Datagrams, Any]:
    transport, protocol = await endpoint(on_datagram, local_addr=("127.0.0.1", 0))
    return transport, protocol, transport.get_extra_info("sockname")


async def full_endpoint(tmp_path: Path) -> tuple[asyncio.DatagramTransport, Datagrams, Any, bytes]:
    """An endpoint whose peer takes no more datagrams, the peer, and one queued datagram."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.setblocking(False)
    peer.bind(str(tmp_path / "peer"))
    transport, protocol = await endpoint(family=socket.AF_UNIX, remote_addr=str(tmp_path / "peer"))
    payload = b"x" * 1000
    while not transport.get_write_buffer_size():
        transport.sendto(payload)
    return transport, protocol, peer, payload


async def close(*transports: asyncio.DatagramTransport) -> None:
    for transport in transports:
        protocol: Any = transport.get_protocol()
        transport.close()
        if protocol is not None:
            assert await protocol.lost is None


async def test_exchange_between_an_unconnected_and_a_connected_endpoint(loop: Loop) -> None:
    def answer(protocol: Datagrams) -> None:
        data, addr = protocol.received[-1]
        protocol.transport.sendto(b"re:" + data, addr)

    server, served, address = await bound(answer)
    client, protocol = await endpoint(remote_addr=address)
    for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"a view")[2:]):
        client.sendto(data)
    assert await protocol.payloads(3) == [b"re:bytes", b"re:bytearray", b"re:view"]
    assert {addr for _, addr in protocol.received} == {address}
    assert {addr for _, addr in served.received} == {client.get_extra_info("sockname")}
    assert client.get_extra_info("peername") == address
    assert server.get_extra_info("peername") is None
    assert server.get_extra_info("nothing", 7) == 7
    assert client.get_extra_info("socket").type == socket.SOCK_DGRAM
    await close(client, server)
    assert protocol.events == ["made", *["datagram"] * 3, "lost"]
    assert client.is_closing()


async def test_the_transport_is_of_asyncios_kind(loop: Loop) -> None:
    transport, _, _ = await bound()
    assert isinstance(transport, asyncio.BaseTransport)
    assert isinstance(transport, asyncio.Transport)
    if COUNTS_HEADERS:
        assert isinstance(transport, asyncio.DatagramTransport)
    await close(transport)


async def test_ipv6(loop: Loop) -> None:
    try:
        server, served = await endpoint(local_addr=("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    address = server.get_extra_info("sockname")
    client, protocol = await endpoint(local_addr=("::1", 0))
    client.sendto(b"four", address)
    client.sendto(b"two", address[:2])
    assert await served.payloads(2) == [b"four", b"two"]
    sender = served.received[0][1]
    assert sender == client.get_extra_info("sockname") and len(sender) == 4
    server.sendto(b"back", sender)
    assert await protocol.payloads(1) == [b"back"]
    await close(client, server)


async def test_a_name_that_needs_the_socket_module(loop: Loop) -> None:
    server, served, address = await bound()
    client, _ = await endpoint(family=socket.AF_INET)
    client.sendto(b"short form", ("127.1", address[1]))
    assert await served.payloads(1) == [b"short form"]
    await close(client, server)


async def test_unix_paths_and_a_stale_socket(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)
    server, served = await endpoint(family=socket.AF_UNIX, local_addr=path)
    client, protocol = await endpoint(
        family=socket.AF_UNIX, local_addr=str(tmp_path / "client"), remote_addr=path
    )
    client.sendto(b"hello")
    assert await served.payloads(1) == [b"hello"]
    assert served.received[0][1] == str(tmp_path / "client")
    server.sendto(b"back", str(tmp_path / "client"))
    assert await protocol.payloads(1) == [b"back"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unnamed:
        unnamed.sendto(b"who", path)
    await served.payloads(2)
    assert served.received[1] == (b"who", None)
    await close(client, server)


async def test_empty_datagrams(loop: Loop) -> None:
    server, served, address = await bound()
    client, _ = await endpoint(remote_addr=address)
    client.sendto(b"")
    client.sendto(b"last")
    expected = [b"", b"last"] if COUNTS_HEADERS else [b"last"]
    assert await served.payloads(len(expected)) == expected
    await close(client, server)


async def test_an_empty_datagram_is_received(loop: Loop) -> None:
    transport, protocol, address = await bound()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.sendto(b"", address)
        assert await protocol.payloads(1) == [b""]
    assert not transport.is_closing()
    await close(transport)


@pytest.mark.parametrize("data", ["text", None, 1])
async def test_what_may_not_be_sent(loop: Loop, data: Any) -> None:
    transport, _, address = await bound()
    with pytest.raises(TypeError, match="data argument must be a bytes-like object, not '"):
        transport.sendto(data, address)
    await close(transport)


async def test_a_connected_endpoint_sends_to_its_peer_only(loop: Loop) -> None:
    server, served, address = await bound()
    client, _ = await endpoint(remote_addr=address)
    with pytest.raises(ValueError, match=r"Invalid address: must be None or \('127.0.0.1', "):
        client.sendto(b"x", ("127.0.0.1", 1))
    client.sendto(b"y", address)
    assert await served.payloads(1) == [b"y"]
    await close(client, server)


async def test_broadcast_fixes_the_address_without_connecting(loop: Loop) -> None:
    server, served, address = await bound()
    client, _ = await endpoint(remote_addr=address, allow_broadcast=True)
    sock = client.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
    assert client.get_extra_info("peername") is None
    with pytest.raises(ValueError, match="Invalid address: must be None or"):
        client.sendto(b"x", ("127.0.0.1", 1))
    client.sendto(b"y")
    assert await served.payloads(1) == [b"y"]
    await close(client, server)


async def test_an_address_that_is_none_ends_the_transport(
    loop: Loop, errors: list[dict[str, Any]]
) -> None:
    transport, protocol, _ = await bound()
    transport.sendto(b"x", ("127.0.0.1", 1 << 20))
    assert isinstance(await protocol.lost, OverflowError)
    (report,) = errors
    assert report["message"] == "Fatal write error on datagram transport"
    assert isinstance(report["exception"], OverflowError)
    errors.clear()


async def test_a_refused_datagram_is_an_error_received(loop: Loop) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    transport, protocol = await endpoint(remote_addr=address)
    transport.sendto(b"x")
    await protocol.wait_for(lambda: protocol.failures)
    assert isinstance(protocol.failures[0], ConnectionRefusedError)
    assert not transport.is_closing()
    await close(transport)


async def test_a_datagram_that_is_too_long_is_an_error_received(loop: Loop) -> None:
    server, served, address = await bound()
    transport, protocol = await endpoint(remote_addr=address)
    transport.sendto(b"x" * 70_000)
    assert [type(error) for error in protocol.failures] == [OSError]
    transport.sendto(b"fits")
    assert await served.payloads(1) == [b"fits"]
    await close(transport, server)


async def test_flow_control(loop: Loop, tmp_path: Path) -> None:
    transport, protocol, peer, payload = await full_endpoint(tmp_path)
    each = len(payload) + (8 if COUNTS_HEADERS else 0)
    assert transport.get_write_buffer_size() == each
    transport.set_write_buffer_limits(high=3 * each)
    assert transport.get_write_buffer_limits() == (3 * each // 4, 3 * each)
    transport.sendto(payload)
    transport.sendto(payload)
    assert "pause" not in protocol.events
    transport.sendto(payload)
    transport.sendto(payload)
    assert protocol.events.count("pause") == 1
    sent_before = 0
    while "resume" not in protocol.events:
        try:
            assert peer.recv(2000) == payload
            sent_before += 1
        except BlockingIOError:
            await asyncio.sleep(0)
    assert sent_before >= 1
    transport.close()
    assert await protocol.lost is None
    assert protocol.events == ["made", "pause", "resume", "lost"]
    peer.close()


async def test_close_sends_what_is_queued_and_keeps_the_order(loop: Loop, tmp_path: Path) -> None:
    transport, protocol, peer, _ = await full_endpoint(tmp_path)
    for number in range(3):
        transport.sendto(b"queued %d" % number)
    transport.close()
    assert transport.is_closing() and not protocol.lost.done()
    received = []
    while not protocol.lost.done():
        try:
            received.append(peer.recv(2000))
        except BlockingIOError:
            await asyncio.sleep(0)
    while True:
        try:
            received.append(peer.recv(2000))
        except BlockingIOError:
            break
    assert received[-3:] == [b"queued 0", b"queued 1", b"queued 2"]
    peer.close()


async def test_abort_drops_what_is_queued(loop: Loop, tmp_path: Path) -> None:
    transport, protocol, peer, _ = await full_endpoint(tmp_path)
    transport.sendto(b"dropped")
    transport.abort()
    assert not protocol.lost.done(), "connection_lost is never called from inside abort()"
    assert await protocol.lost is None
    received = []
    while True:
        try:
            received.append(peer.recv(2000))
        except BlockingIOError:
            break
    assert b"dropped" not in received
    peer.close()


async def test_what_is_queued_is_a_copy(loop: Loop, tmp_path: Path) -> None:
    transport, protocol, peer, _ = await full_endpoint(tmp_path)
    data = bytearray(b"before")
    transport.sendto(data)
    data[:] = b"after!!"
    transport.close()
    last = b""
    while not protocol.lost.done() or last != b"before":
        try:
            last = peer.recv(2000)
        except BlockingIOError:
            assert not protocol.lost.done()
            await asyncio.sleep(0)
    peer.close()


async def test_pause_and_close_hold_between_two_datagrams(loop: Loop) -> None:
    def pause(protocol: Datagrams) -> None:
        protocol.transport.pause_reading()  # type: ignore[attr-defined]

    transport, protocol, address = await bound(pause)
    reading: Any = transport
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        for number in range(3):
            plain.sendto(b"%d" % number, address)
        for count in (1, 2):
            await protocol.payloads(count)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(protocol.received) == count
            assert not reading.is_reading()
            reading.resume_reading()
        protocol._on_datagram = lambda protocol: protocol.transport.close()
        plain.sendto(b"never", address)
        assert await protocol.lost is None
    assert [data for data, _ in protocol.received] == [b"0", b"1", b"2"]


async def test_a_failing_protocol_is_reported_and_goes_on(
    loop: Loop, errors: list[dict[str, Any]]
) -> None:
    def fail(protocol: Datagrams) -> None:
        raise ValueError(protocol.received[-1][0])

    transport, protocol, address = await bound(fail)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        for data in (b"1", b"2"):
            plain.sendto(data, address)
        await protocol.payloads(2)
        await asyncio.sleep(0)
    assert [report["exception"].args for report in errors] == [(b"1",), (b"2",)]
    assert not transport.is_closing()
    errors.clear()
    await close(transport)


async def test_callbacks_run_in_the_context_of_the_endpoint(loop: Loop) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    variable.set("maker")
    transport, protocol, address = await bound(lambda _: seen.append(variable.get()))
    variable.set("later")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.sendto(b"x", address)
    await protocol.payloads(1)
    assert seen == ["maker"]
    await close(transport)


async def test_sending_after_the_end_is_dropped(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    server, _, address = await bound()
    client, _ = await endpoint(remote_addr=address)
    await close(client)
    with caplog.at_level("WARNING", "asyncio"):
        for _ in range(8):
            client.sendto(b"late")
    assert {record.message for record in caplog.records} == {"socket.send() raised exception."}
    await close(server)


async def test_the_descriptor_is_the_transports_until_it_is_lost(loop: Loop) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await endpoint(sock=sock)
    fd = sock.fileno()
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(fd, print)
    transport.close()
    transport.close()
    assert await protocol.lost is None
    await asyncio.sleep(0)
    assert sock.fileno() == -1
    assert protocol.events == ["made", "lost"]


async def test_options_and_errors(loop: Loop) -> None:
    with pytest.raises(ValueError, match="unexpected address family"):
        await endpoint()
    with pytest.raises(TypeError, match="2-tuple is expected"):
        await endpoint(local_addr="127.0.0.1")
    with pytest.raises(TypeError, match="string is expected"):
        await endpoint(local_addr=("127.0.0.1", 0), family=socket.AF_UNIX)
    with pytest.raises(ValueError, match="can not get address information"):
        await endpoint(local_addr=("127.0.0.1", 0), remote_addr=("::1", 1))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        with pytest.raises(ValueError, match=r"A (UDP|datagram) [sS]ocket was expected, got"):
            await endpoint(sock=stream)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match=r"when sock is specified. \(proto=17\)"):
            await endpoint(sock=sock, proto=17)
    taken, _, address = await bound()
    with pytest.raises(OSError, match="Address already in use"):
        await endpoint(local_addr=address)
    await close(taken)
    first, _ = await endpoint(local_addr=("127.0.0.1", 0), reuse_port=True)
    second, _ = await endpoint(local_addr=first.get_extra_info("sockname"), reuse_port=True)
    await close(first, second)


def test_an_unclosed_transport_is_warned_about(loop_factory: Callable[[], Loop]) -> None:
    loop = loop_factory()
    transport, _, _ = loop.run_until_complete(bound())
    sock = transport.get_extra_info("socket")
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport <"):
        del transport, _
        del loop
        gc.collect()
    assert sock.fileno() == -1


async def test_many_datagrams_do_not_starve_the_loop(loop: Loop) -> None:
    """Two endpoints that keep each other busy leave room for timers and jobs."""

    echoed = 0

    def echo(protocol: Datagrams) -> None:
        nonlocal echoed
        echoed += 1
        protocol.transport.sendto(*protocol.received.pop())

    first, _, address = await bound(echo)
    second, _, _ = await bound(echo)
    for number in range(20):
        second.sendto(b"%d" % number, address)
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    assert echoed > 0
    first.abort()
    second.abort()
    await asyncio.sleep(0)
