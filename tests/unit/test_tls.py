"""TLS transports: what a protocol sees of an encrypted connection.

Every test runs twice: with contexts as everybody has them, whose connections oxloop may serve past
the methods of `ssl`, and with a class of connections of one's own, whose methods must be called.
"""

import asyncio
import io
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder, next_turns
from tls_peer import (
    CLIENT,
    client_context,
    close_both,
    server_context,
    socket_pair,
    tls_pair,
    with_peer,
)

Loop = asyncio.AbstractEventLoop


pytestmark = pytest.mark.usefixtures("connection_class")


async def test_bytes_of_every_size_both_ways(loop: Loop) -> None:
    served, connected = await tls_pair()
    sent = bytearray()
    for size in (1, 1023, 1024, 16_383, 16_384, 16_385, 100_000, 1_000_000):
        data = bytes([size % 251]) * size
        sent += data
        connected.transport.write(data)
        served.transport.write(data)
        await served.wait_received(len(sent))
        await connected.wait_received(len(sent))
    assert served.received == connected.received == sent
    await close_both(connected, served)
    # Which side ends first, and whether the other has to pause, is chance.
    kept = [word for word in served.events if word not in ("pause", "resume")]
    assert kept[:2] == ["made", "data"]
    assert kept[-1] == "lost"


async def test_what_the_transport_tells(loop: Loop) -> None:
    client = client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    server = server_context()
    server.set_alpn_protocols(["http/1.1"])
    served, connected = await tls_pair(server=server, client=client)
    transport = connected.transport
    assert isinstance(transport, asyncio.Transport)
    info = transport.get_extra_info
    assert info("sslcontext") is client
    assert isinstance(info("ssl_object"), ssl.SSLObject)
    assert info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert info("cipher") == info("ssl_object").cipher()
    assert info("compression") is None
    assert info("peercert")["subject"] == ((("commonName", "localhost"),),)
    assert info("peername") == served.transport.get_extra_info("sockname")
    assert info("socket").fileno() > 0
    assert info("nothing", 5) == 5
    assert served.transport.get_extra_info("peercert") is None
    assert not transport.can_write_eof()
    with pytest.raises(NotImplementedError):
        transport.write_eof()
    assert transport.get_write_buffer_limits() == (131_072, 524_288)
    assert transport.get_read_buffer_limits() == (65_536, 262_144)
    assert transport.get_write_buffer_size() == transport.get_read_buffer_size() == 0
    assert transport.is_reading() and not transport.is_closing()
    assert transport.get_protocol() is connected
    await close_both(connected, served)
    assert transport.is_closing()


async def test_client_certificates(loop: Loop) -> None:
    server = server_context()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(str(CLIENT))
    client = client_context()
    client.load_cert_chain(CLIENT)
    served, connected = await tls_pair(server=server, client=client)
    subject = served.transport.get_extra_info("peercert")["subject"]
    assert subject == ((("commonName", "oxloop test client"),),)
    await close_both(connected, served)


async def test_a_certificate_that_nobody_vouches_for(
    loop: Loop, errors: list[dict[str, Any]]
) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    listening = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
    address = listening.sockets[0].getsockname()
    with pytest.raises(ssl.SSLCertVerificationError):
        await loop.create_connection(factory, *address, ssl=True, server_hostname="localhost")
    listening.close()
    await next_turns(5)
    assert made[0].events == []
    assert errors == []


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1, -0.5])
async def test_timeouts_must_be_positive(loop: Loop, name: str, value: float) -> None:
    ours, theirs = socket_pair()
    with ours, theirs:
        with pytest.raises(ValueError, match=f"{name} should be a positive number, got {value}"):
            await loop.connect_accepted_socket(
                Recorder, ours, ssl=server_context(), **{name: value}
            )


async def test_a_server_needs_a_context(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with ours, theirs:
        with pytest.raises(ValueError, match="Server side SSL needs a valid SSLContext"):
            await loop.connect_accepted_socket(Recorder, ours, ssl=True)


async def test_a_malformed_name_is_refused_at_once(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with ours, theirs:
        with pytest.raises(ValueError):
            await loop.create_connection(
                Recorder, sock=ours, ssl=client_context(), server_hostname=".dot"
            )


async def test_what_can_be_written(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    changing = bytearray(b"bytearray")
    transport.write(changing)
    changing[:] = b"changed"
    transport.write(memoryview(b"-view-")[1:-1])
    transport.write(b"")
    transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b""])
    assert await peer.read(16) == b"bytearrayviewabc"
    for wrong in ("text", 5, None, [1]):
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got"):
            transport.write(wrong)
    transport.write(b"still alive")
    assert await peer.read(11) == b"still alive"
    peer.close()
    await protocol.lost


async def test_writing_after_close_is_dropped(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    transport, protocol, peer = await with_peer()
    transport.close()
    for _ in range(6):
        transport.write(b"dropped")
    assert caplog.messages == ["SSL connection is closed"]
    transport.close()
    assert await peer.read(1) == b""
    peer.close()
    await protocol.lost
    assert protocol.events[-1] == "lost"


async def test_close_ends_both_directions(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    transport.write(b"last words")
    transport.close()
    assert transport.is_closing()
    assert await peer.read(100) == b"last words"
    await peer.unwrap()
    assert await protocol.lost is None
    assert protocol.events == ["made", "eof", "lost"]
    peer.close()


async def test_the_peers_close_notify_ends_the_connection(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    _, protocol, peer = await with_peer(lambda: Recorder(keep_open_on_eof=True))
    await peer.send(b"bye")
    await peer.unwrap()
    assert await protocol.lost is None
    assert protocol.events == ["made", "data", "eof", "lost"]
    assert caplog.messages == ["returning true from eof_received() has no effect when using ssl"]
    peer.close()


async def test_abort_sends_nothing_more(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    transport.abort()
    assert transport.is_closing()
    assert protocol.events == ["made"]
    assert await protocol.lost is None
    assert await peer.read(1) == b""
    peer.close()


async def test_pausing_holds_data_back(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    transport.pause_reading()
    assert not transport.is_reading()
    await peer.send(b"one")
    await next_turns(5)
    assert not protocol.received
    transport.resume_reading()
    assert transport.is_reading()
    assert await protocol.wait_received(3) == b"one"
    peer.close()
    await protocol.lost


async def test_a_paused_reader_stops_the_peer(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    transport.pause_reading()
    data = bytes(range(256)) * 32_768
    sending = loop.create_task(peer.send(data))
    while transport.get_read_buffer_size() < 262_144:
        await asyncio.sleep(0)
    await next_turns(20)
    assert not sending.done()
    assert not protocol.received
    transport.resume_reading()
    await sending
    assert await protocol.wait_received(len(data)) == data
    peer.close()
    await protocol.lost


async def test_a_slow_peer_pauses_the_writer(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    data = bytes(range(256)) * 16_384
    # The transport below takes the first in one piece, and then no more.
    transport.write(data)
    assert protocol.events == ["made"]
    transport.write(data)
    assert protocol.events == ["made", "pause"]
    assert transport.get_write_buffer_size() > len(data)
    assert await peer.read(2 * len(data)) == data + data
    while "resume" not in protocol.events:
        await asyncio.sleep(0)
    assert protocol.events == ["made", "pause", "resume"]
    assert transport.get_write_buffer_size() == 0
    peer.close()
    await protocol.lost


async def test_limits(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    transport.set_write_buffer_limits(high=1000)
    assert transport.get_write_buffer_limits() == (250, 1000)
    transport.set_read_buffer_limits(low=100)
    assert transport.get_read_buffer_limits() == (100, 400)
    for setter in (transport.set_write_buffer_limits, transport.set_read_buffer_limits):
        with pytest.raises(ValueError, match="must be >= low"):
            setter(high=1, low=2)
    peer.close()
    await protocol.lost


class Buffered(asyncio.BufferedProtocol):
    """Collects what comes through a buffer of `size` bytes."""

    size = 5

    def __init__(self) -> None:
        self.buffer = bytearray(self.size)
        self.received = bytearray()
        self.events: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> Any:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


@pytest.mark.parametrize("size", [1, 5, 16_384, 100_000])
async def test_buffered_protocols(loop: Loop, size: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(Buffered, "size", size)
    _, protocol, peer = await with_peer(Buffered)
    data = bytes(range(256)) * (40 if size < 100 else 2000)
    await peer.send(data[:100])
    await peer.send(data[100:])
    await peer.unwrap()
    assert await protocol.lost is None
    assert protocol.received == data
    assert protocol.events == ["eof", "lost"]
    peer.close()


async def test_a_protocol_that_fails_ends_its_connection(
    loop: Loop, errors: list[dict[str, Any]]
) -> None:
    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    _, protocol, peer = await with_peer(Fails)
    await peer.send(b"x")
    assert isinstance(await protocol.lost, ZeroDivisionError)
    assert [error["message"] for error in errors] == ["Fatal error on SSL protocol"]
    errors.clear()
    assert await peer.read(1) == b""
    peer.close()


async def test_a_damaged_record_ends_the_connection_after_the_good_ones(loop: Loop) -> None:
    _, protocol, peer = await with_peer()
    peer.tls.write(b"good")
    good = peer.outgoing.read()
    peer.tls.write(b"damaged")
    damaged = bytearray(peer.outgoing.read())
    damaged[-1] ^= 1
    await loop.sock_sendall(peer.sock, good)
    await protocol.wait_received(4)
    await loop.sock_sendall(peer.sock, damaged)
    assert isinstance(await protocol.lost, ssl.SSLError)
    assert protocol.received == b"good"
    peer.close()


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received"])
async def test_ending_from_inside_a_callback(loop: Loop, method: str, callback: str) -> None:
    class Ends(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.end("connection_made")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.end("data_received")

        def eof_received(self) -> bool:
            super().eof_received()
            self.end("eof_received")
            return False

        def end(self, name: str) -> None:
            if name == callback:
                getattr(self.transport, method)()

    _, protocol, peer = await with_peer(Ends)
    if callback != "connection_made":
        await peer.send(b"data")
        await protocol.wait_received(4)
    if callback == "eof_received" or method == "close":
        await peer.unwrap()
    assert await protocol.lost is None
    assert protocol.events.count("lost") == 1
    assert protocol.events[-1] == "lost"
    peer.close()


async def test_unix_sockets(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_unix_server(echo, path, ssl=server_context())
    reader, writer = await asyncio.open_unix_connection(
        path, ssl=client_context(), server_hostname="localhost"
    )
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    server.close()
    await server.wait_closed()


async def test_files_are_sent_by_reading_them(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    data = bytes(range(256)) * 400
    sending = loop.create_task(loop.sendfile(transport, io.BytesIO(data)))
    assert await peer.read(len(data)) == data
    assert await sending == len(data)
    with pytest.raises(RuntimeError, match="fallback is disabled"):
        await loop.sendfile(transport, io.BytesIO(data), fallback=False)
    peer.close()
    await protocol.lost


async def test_another_protocol_takes_over(loop: Loop) -> None:
    transport, first, peer = await with_peer()
    await peer.send(b"first")
    await first.wait_received(5)
    for protocol in (Buffered(), Recorder()):
        protocol.events.append("made")
        transport.set_protocol(protocol)
        assert transport.get_protocol() is protocol
        await peer.send(b"next")
        while protocol.received != b"next":
            await asyncio.sleep(0)
    peer.close()
    await protocol.lost
    assert first.received == b"first"
    assert first.events == ["made", "data"]


async def test_debug_mode_tells_of_the_handshake(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    caplog.set_level("DEBUG", "asyncio")
    _, protocol, peer = await with_peer()
    peer.sock.shutdown(socket.SHUT_WR)
    await protocol.lost
    peer.close()
    assert any("starts SSL handshake" in message for message in caplog.messages)
    assert any("SSL handshake took" in message for message in caplog.messages)
    assert any("received EOF" in message for message in caplog.messages)


class PausesAtOnce(Recorder):
    """Reads nothing from the start."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()


async def test_a_client_that_does_not_read_ends_its_handshake(loop: Loop, loop_name: str) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio leaves the last message of the handshake unsent")
    served, connected = socket_pair()
    serving = loop.create_task(
        loop.connect_accepted_socket(
            Recorder, served, ssl=server_context(), ssl_handshake_timeout=20
        )
    )
    transport, protocol = await loop.create_connection(
        PausesAtOnce, sock=connected, ssl=client_context(), server_hostname="localhost"
    )
    _, server = await serving
    server.transport.write(b"unread")
    transport.resume_reading()
    await protocol.wait_received(6)
    await close_both(protocol, server)


async def test_nothing_comes_after_close_when_the_peer_has_hung_up(
    loop: Loop, loop_name: str
) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio delivers what was left")
    transport, protocol, peer = await with_peer()
    transport.pause_reading()
    await peer.send(b"x" * 150_000)
    peer.sock.shutdown(socket.SHUT_WR)
    await next_turns(50)
    transport.resume_reading()
    transport.close()
    received = len(protocol.received)
    await protocol.lost
    assert len(protocol.received) == received
    peer.sock.close()
