"""Streams over TCP, Unix sockets, TLS, pipes and processes; by `oxloop`'s classes on any loop."""

import asyncio
import gc
import os
import socket
import ssl
import sys
import warnings
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import oxloop
import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[Any, Any], Awaitable[None]]


async def upper(reader: Reader, writer: Writer) -> None:
    """A server that answers each line in capitals."""
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def converse(reader: Reader, writer: Writer) -> None:
    """A client of `parts`."""
    writer.write(b"one\ntw")
    writer.writelines([b"o\n", bytearray(b"three\n")])
    await writer.drain()
    assert await reader.readline() == b"ONE\n"
    assert await reader.readexactly(4) == b"TWO\n"
    assert await reader.readuntil(b"EE") == b"THREE"
    assert await reader.read(10) == b"\n"
    large = bytes(range(32, 127)) * 10_000 + b"\n"
    sending = asyncio.ensure_future(send(writer, large))
    assert await reader.readexactly(len(large)) == large.upper()
    await sending


async def send(writer: Writer, data: bytes) -> None:
    """In parts that end with newlines, so that no line is above the limit."""
    for start in range(0, len(data), 10_000):
        writer.write(data[start : start + 10_000])
        await writer.drain()


async def parts(reader: Reader, writer: Writer) -> None:
    """A server that answers everything in capitals, lines or not."""
    while data := await reader.read(100_000):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def end(writer: Writer, server: Any) -> None:
    writer.close()
    await writer.wait_closed()
    assert writer.is_closing()
    server.close()
    await server.wait_closed()


async def serve(handler: Handler, **options: Any) -> tuple[Any, int]:
    server = await oxloop.start_server(handler, "127.0.0.1", 0, **options)
    return server, server.sockets[0].getsockname()[1]


async def test_tcp(loop: Loop) -> None:
    server, port = await serve(parts)
    reader, writer = await oxloop.open_connection("127.0.0.1", port)
    assert isinstance(reader, oxloop.StreamReader)
    assert isinstance(writer, asyncio.StreamWriter)
    assert isinstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
    await converse(reader, writer)
    assert writer.can_write_eof()
    writer.write_eof()
    assert await reader.read() == b""
    assert reader.at_eof()
    assert writer.get_extra_info("peername") == ("127.0.0.1", port)
    assert writer.get_extra_info("nothing", 3) == 3
    await end(writer, server)


async def test_lines(loop: Loop) -> None:
    server, port = await serve(upper)
    reader, writer = await oxloop.open_connection("127.0.0.1", port)
    writer.write(b"".join(b"line %d\n" % number for number in range(10_000)))
    writer.write_eof()
    answer = [line async for line in reader]
    assert answer == [b"LINE %d\n" % number for number in range(10_000)]
    await end(writer, server)


async def test_unix(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = await oxloop.start_unix_server(parts, path)
    reader, writer = await oxloop.open_unix_connection(path)
    await converse(reader, writer)
    await end(writer, server)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    tls = pytest.importorskip(
        "test.test_asyncio.utils", reason="this Python comes without its own tests"
    )
    return tls.simple_server_sslcontext(), tls.simple_client_sslcontext()


async def test_tls(loop: Loop) -> None:
    server_context, client_context = contexts()
    server, port = await serve(parts, ssl=server_context)
    reader, writer = await oxloop.open_connection("127.0.0.1", port, ssl=client_context)
    await converse(reader, writer)
    assert writer.get_extra_info("ssl_object") is not None
    await end(writer, server)


async def test_start_tls(loop: Loop) -> None:
    server_context, client_context = contexts()
    sides: list[Any] = []

    async def upgrade(reader: Reader, writer: Writer) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(server_context)
        sides.append(writer.transport)
        await parts(reader, writer)

    server, port = await serve(upgrade)
    reader, writer = await oxloop.open_connection("127.0.0.1", port)
    plain = writer.transport
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context)
    assert writer.transport is not plain
    assert reader._transport is writer.transport
    await converse(reader, writer)
    assert sides[0].get_extra_info("sslcontext") is server_context
    await end(writer, server)


async def test_pipes_by_hand(loop: Loop) -> None:
    """The way of programs that build the reader and its protocol themselves."""
    read_fd, write_fd = os.pipe()
    reader = oxloop.StreamReader()
    transport, protocol = await loop.connect_read_pipe(
        lambda: oxloop.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0)
    )
    assert protocol._stream_reader is reader
    pipe, flow = await loop.connect_write_pipe(
        lambda: oxloop.StreamReaderProtocol(oxloop.StreamReader()), os.fdopen(write_fd, "wb", 0)
    )
    writer = oxloop.StreamWriter(pipe, flow, None, loop)
    large = b"0123456789" * 50_000
    sending = asyncio.ensure_future(send(writer, large))
    assert await reader.readexactly(len(large)) == large
    await sending
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    transport.close()
    await next_turns(3)


async def test_a_stdlib_protocol_feeds_a_native_reader(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reader = oxloop.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    theirs.sendall(b"line\n")
    assert await reader.readline() == b"line\n"
    writer.close()
    await writer.wait_closed()
    theirs.close()


async def test_processes(loop: Loop) -> None:
    program = "import sys; sys.stderr.write('err'); sys.stdout.write(sys.stdin.read().upper())"
    pipe = asyncio.subprocess.PIPE
    process = await oxloop.create_subprocess_exec(
        sys.executable, "-c", program, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert isinstance(process.stdout, oxloop.StreamReader)
    assert isinstance(process.stdin, oxloop.StreamWriter)
    assert await process.communicate(b"text") == (b"TEXT", b"err")
    assert process.returncode == 0
    process = await oxloop.create_subprocess_shell("cat; exit 3", stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"a\nb\n")
    await process.stdin.drain()
    assert await process.stdout.readline() == b"a\n"
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b"b\n"
    assert await process.wait() == 3


async def test_a_process_that_takes_slowly(loop: Loop) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await oxloop.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    large = b"0123456789" * 200_000
    process.stdin.write(large)
    draining = asyncio.ensure_future(process.stdin.drain())
    await next_turns(3)
    assert not draining.done()
    assert await process.stdout.readexactly(len(large)) == large
    await draining
    process.stdin.close()
    assert await process.wait() == 0


async def pair(loop: Loop, **options: Any) -> tuple[Any, Any, socket.socket]:
    """A stream over one end of a socket pair, and the other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    reader = oxloop.StreamReader(**options)
    transport, protocol = await loop.connect_accepted_socket(
        lambda: oxloop.StreamReaderProtocol(reader), ours
    )
    return reader, oxloop.StreamWriter(transport, protocol, reader, loop), theirs


async def test_drain_waits_while_the_transport_is_full(loop: Loop) -> None:
    reader, writer, peer = await pair(loop)
    writer.transport.set_write_buffer_limits(high=1000)
    total = 3_000_000
    writer.write(bytes(total))
    waiting = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
    await next_turns(3)
    assert not any(task.done() for task in waiting)
    assert len(writer._protocol._drain_waiters) == 3
    waiting[1].cancel()
    received = 0
    while received < total:
        received += len(await loop.sock_recv(peer, 1_000_000))
    assert await waiting[0] is None
    assert await waiting[2] is None
    assert waiting[1].cancelled()
    assert len(writer._protocol._drain_waiters) == 0
    writer.close()
    await writer.wait_closed()
    peer.close()


async def test_drain_tells_of_a_lost_connection(loop: Loop) -> None:
    reader, writer, peer = await pair(loop)
    peer.close()
    # Both ways to hear of it end the loop, sooner or later.
    with pytest.raises(ConnectionError):
        while True:
            writer.write(b"x")
            await writer.drain()
    writer.close()
    with pytest.raises(ConnectionError):
        await writer.wait_closed()


async def test_drain_of_a_closing_stream_hears_of_the_loss(loop: Loop) -> None:
    reader, writer, peer = await pair(loop)
    writer.close()
    with pytest.raises(ConnectionResetError, match="^Connection lost$"):
        await writer.drain()
    await writer.wait_closed()
    peer.close()


async def test_drain_of_a_stream_that_still_sends_waits_for_its_end(
    loop: Loop, loop_name: str
) -> None:
    """A program that writes and drains after `close()` does not spin (python/cpython#80982)."""
    reader, writer, peer = await pair(loop)
    writer.transport.set_write_buffer_limits(high=10_000_000)
    writer.write(bytes(3_000_000))
    writer.close()
    waiting = asyncio.ensure_future(writer.drain())
    await next_turns(5)
    # A transport of somebody else may never tell its end.
    assert waiting.done() == (loop_name == "asyncio")
    received = 0
    while data := await loop.sock_recv(peer, 1_000_000):
        received += len(data)
    assert received == 3_000_000
    await waiting
    await writer.wait_closed()
    with pytest.raises(ConnectionResetError, match="^Connection lost$"):
        await writer.drain()
    peer.close()


@pytest.mark.parametrize("cancelled", [False, True], ids=["waits on", "cancelled"])
async def test_room_does_not_end_the_drain_of_a_closing_stream(
    loop: Loop, loop_name: str, cancelled: bool
) -> None:
    if loop_name == "asyncio":
        pytest.skip("a transport of somebody else may never tell its end")
    reader, writer, peer = await pair(loop)
    protocol = writer.transport.get_protocol()
    writer.transport.set_write_buffer_limits(high=2_000_000, low=1_900_000)
    writer.write(bytes(3_000_000))
    assert protocol._paused
    writer.close()
    waiting = asyncio.ensure_future(writer.drain())
    await next_turns(5)
    received = 0
    while protocol._paused:
        received += len(await loop.sock_recv(peer, 100_000))
    await next_turns(5)
    # Woken, it waits again, for the end.
    assert not waiting.done() and len(protocol._drain_waiters) == 1
    if cancelled:
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled() and protocol._drain_waiters == []
    while data := await loop.sock_recv(peer, 1_000_000):
        received += len(data)
    assert received == 3_000_000
    if not cancelled:
        await waiting
    assert protocol._drain_waiters == []
    await writer.wait_closed()
    peer.close()


async def test_waiting_drain_ends_with_the_connection(loop: Loop) -> None:
    reader, writer, peer = await pair(loop)
    writer.write(bytes(3_000_000))
    waiting = asyncio.ensure_future(writer.drain())
    await next_turns(3)
    assert not waiting.done()
    writer.transport.abort()
    await waiting
    await writer.wait_closed()
    peer.close()


async def test_drain_raises_the_readers_exception(loop: Loop) -> None:
    reader, writer, peer = await pair(loop)
    reader.set_exception(KeyError("broken"))
    with pytest.raises(KeyError):
        await writer.drain()
    writer.close()
    await writer.wait_closed()
    peer.close()


async def test_reading_pauses_at_twice_the_limit(loop: Loop) -> None:
    reader, writer, peer = await pair(loop, limit=1000)
    await loop.sock_sendall(peer, bytes(2001))
    while not reader._paused:
        await next_turns()
    assert not writer.transport.is_reading()
    await loop.sock_sendall(peer, b"rest")
    await next_turns(3)
    assert await reader.readexactly(1000) == bytes(1000)
    assert reader._paused
    assert await reader.readexactly(1) == b"\0"
    assert not reader._paused
    assert writer.transport.is_reading()
    # More than twice the limit at once: nothing stops while somebody waits for it.
    reading = asyncio.ensure_future(reader.readexactly(100_000))
    await loop.sock_sendall(peer, bytes(100_000))
    assert len(await reading) == 100_000
    assert await reader.readexactly(1004) == bytes(1000) + bytes(4)
    writer.close()
    await writer.wait_closed()
    peer.close()


@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_an_exception_of_the_callback_is_reported(
    loop: Loop, errors: list[dict[str, Any]], is_coroutine: bool
) -> None:
    async def fail(reader: Reader, writer: Writer) -> None:
        raise KeyError("callback")

    def fail_at_once(reader: Reader, writer: Writer) -> Any:
        raise KeyError("callback")

    server, port = await serve(fail if is_coroutine else fail_at_once)
    reader, writer = await oxloop.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    await end(writer, server)
    report = errors.pop()
    assert report["message"] == "Unhandled exception in client_connected_cb"
    assert isinstance(report["exception"], KeyError)
    assert errors == []


async def test_a_cancelled_callback_closes_in_silence(loop: Loop) -> None:
    async def cancelled(reader: Reader, writer: Writer) -> None:
        raise asyncio.CancelledError

    server, port = await serve(cancelled)
    reader, writer = await oxloop.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    await end(writer, server)


async def test_a_plain_function_as_callback(loop: Loop) -> None:
    writers: list[Any] = []
    server, port = await serve(lambda reader, writer: writers.append(writer))
    reader, writer = await oxloop.open_connection("127.0.0.1", port)
    while not writers:
        await next_turns()
    writers[0].write(b"hello")
    assert await reader.read(5) == b"hello"
    writers[0].close()
    await end(writer, server)


async def test_protocols_of_programs(loop: Loop) -> None:
    seen: list[bytes] = []

    class Protocol(oxloop.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            seen.append(data)
            super().data_received(data)

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reader = oxloop.StreamReader()
    transport, protocol = await loop.connect_accepted_socket(lambda: Protocol(reader), ours)
    theirs.sendall(b"abc")
    assert await reader.read(10) == b"abc"
    replaced: list[bytes] = []
    protocol.data_received = replaced.append  # type: ignore[method-assign]
    theirs.sendall(b"def")
    while not replaced:
        await next_turns()
    assert seen == [b"abc"]
    transport.close()
    await next_turns(3)
    theirs.close()


async def test_a_writer_that_is_dropped_closes_and_warns(loop: Loop) -> None:
    reader, writer, peer = await pair(loop)
    transport = writer.transport
    with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
        del writer
        gc.collect()
    assert transport.is_closing()
    await next_turns(3)
    peer.close()


async def test_connections_are_freed_without_the_collector(loop: Loop) -> None:
    async def one() -> list[weakref.ref[Any]]:
        reader, writer, peer = await pair(loop)
        peer.sendall(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.write(b"x")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        peer.close()
        return [weakref.ref(reader), weakref.ref(writer._protocol), weakref.ref(writer)]

    await one()
    gc.collect()
    gc.disable()
    try:
        dead = await one()
        await next_turns(3)
        assert [ref() for ref in dead] == [None, None, None]
    finally:
        gc.enable()


async def test_cycles_through_streams_are_collected(loop: Loop) -> None:
    reader, writer, peer = await pair(loop)
    writer.close()
    await writer.wait_closed()
    peer.close()
    reader.myself = writer
    writer.myself = reader
    writer._protocol.both = (reader, writer)
    dead = weakref.ref(writer)
    del reader, writer
    gc.collect()
    assert dead() is None


async def test_nothing_warns(loop: Loop) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        server, port = await serve(parts)
        reader, writer = await oxloop.open_connection("127.0.0.1", port)
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"ABC"
        await end(writer, server)
        await next_turns(3)
        gc.collect()
