"""A PROXY header and a ClientHello in one segment: the header is read plain, the rest is TLS.

A load balancer puts its header in front of whatever the client sends. The server reads exactly the
header, by a protocol, by calls on the socket, or by a stream, and then takes up TLS. Nothing that
stands behind the header may get lost, and nothing plain may arrive as if it had been encrypted.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from recorder import Recorder, next_turns
from tls_peer import Peer, server_context, socket_pair

Loop = asyncio.AbstractEventLoop
Read = Callable[[int], Awaitable[bytes]]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ADDRESSES = bytes([127, 0, 0, 1, 127, 0, 0, 1]) + struct.pack("!HH", 50_000, 443)
VERSION_1 = b"PROXY TCP4 127.0.0.1 127.0.0.1 50000 443\r\n"
VERSION_2 = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(ADDRESSES)) + ADDRESSES

CONTEXT = server_context()


pytestmark = pytest.mark.usefixtures("connection_class")


async def read_header(read: Read) -> bytes:
    """A PROXY header of either version; not one byte more is asked for."""
    header = await read(len(SIGNATURE))
    if header == SIGNATURE:
        header += await read(4)
        return header + await read(int.from_bytes(header[-2:], "big"))
    while not header.endswith(b"\r\n"):
        header += await read(1)
    return header


class Exact(asyncio.BufferedProtocol):
    """Reads as many bytes as it is asked for, and is paused until it is asked."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if self.filled == len(self.buffer):
            self.transport.pause_reading()
            self.complete.set_result(None)

    async def read(self, size: int) -> bytes:
        self.buffer, self.filled = bytearray(size), 0
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport.resume_reading()
        await self.complete
        return bytes(self.buffer)


async def by_protocol(sock: socket.socket) -> tuple[bytes, Read, Any]:
    loop = asyncio.get_running_loop()
    transport, plain = await loop.connect_accepted_socket(Exact, sock)
    header = await read_header(plain.read)
    secure = Recorder()
    secure.connection_made(transport)
    upgraded = await loop.start_tls(transport, secure, CONTEXT, server_side=True)
    return header, secure.wait_received, upgraded


async def by_socket(sock: socket.socket) -> tuple[bytes, Read, Any]:
    loop = asyncio.get_running_loop()

    async def read(size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += await loop.sock_recv(sock, size - len(got))
        return got

    header = await read_header(read)
    transport, secure = await loop.connect_accepted_socket(Recorder, sock, ssl=CONTEXT)
    return header, secure.wait_received, transport


async def by_stream(sock: socket.socket) -> tuple[bytes, Read, Any]:
    loop = asyncio.get_running_loop()
    connected: asyncio.Future[Any] = loop.create_future()
    protocol = asyncio.StreamReaderProtocol(
        asyncio.StreamReader(), lambda *both: connected.set_result(both)
    )
    await loop.connect_accepted_socket(lambda: protocol, sock)
    reader, writer = await connected
    header = await read_header(reader.readexactly)
    try:
        await writer.start_tls(CONTEXT)
    except BaseException:
        writer.close()
        raise
    return header, reader.readexactly, writer.transport


@pytest.fixture(params=[by_protocol, by_socket, by_stream], ids=lambda how: how.__name__)
def server(request: pytest.FixtureRequest, loop_name: str) -> Any:
    if request.param is by_stream and loop_name == "asyncio":
        pytest.skip("asyncio leaves the hello in the reader's buffer and waits for ever")
    return request.param


@pytest.fixture(params=[VERSION_1, VERSION_2], ids=["version 1", "version 2"])
def header(request: pytest.FixtureRequest) -> Any:
    return request.param


async def finish(transport: Any, peer: Peer) -> None:
    transport.abort()
    peer.close()
    await next_turns(5)


@pytest.mark.parametrize("first", [None, 10, 30, 47, 300])
async def test_nothing_behind_the_header_is_lost(
    loop: Loop, server: Any, header: bytes, first: int | None
) -> None:
    """In one segment, or in two that are cut before, at, and behind the header's end."""
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    serving = loop.create_task(server(ours))
    segment = header + peer.hello()
    await loop.sock_sendall(theirs, segment[:first])
    await next_turns(5)
    if first is not None:
        await loop.sock_sendall(theirs, segment[first:])
    await peer.handshake()
    got, read, transport = await serving
    assert got == header
    data = bytes(range(256)) * 1000
    await asyncio.gather(peer.send(data), read_all(read, data))
    transport.write(b"answer")
    assert await peer.read(6) == b"answer"
    await finish(transport, peer)


async def read_all(read: Read, data: bytes) -> None:
    assert await read(len(data)) == data


async def test_bytes_of_the_header_that_come_one_by_one(
    loop: Loop, server: Any, header: bytes
) -> None:
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    serving = loop.create_task(server(ours))
    for byte in header[:-1]:
        await loop.sock_sendall(theirs, bytes([byte]))
        await asyncio.sleep(0)
    await loop.sock_sendall(theirs, header[-1:] + peer.hello())
    await peer.handshake()
    got, read, transport = await serving
    assert got == header
    await peer.send(b"encrypted")
    assert await read(9) == b"encrypted"
    await finish(transport, peer)


@pytest.mark.parametrize("injected", [b"MAIL FROM:<mallory>\r\n", b"\0", VERSION_1, bytes(20_000)])
async def test_plain_bytes_behind_the_header_are_refused(
    loop: Loop, server: Any, header: bytes, injected: bytes
) -> None:
    """Whatever stands between the header and the hello makes the handshake fail."""
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    serving = loop.create_task(server(ours))
    await loop.sock_sendall(theirs, header + injected + peer.hello())
    with pytest.raises((EOFError, ConnectionError, ssl.SSLError)):
        await peer.handshake()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await serving
    peer.close()
    await next_turns(5)


async def test_plain_bytes_behind_the_hello_are_refused(
    loop: Loop, server: Any, header: bytes
) -> None:
    """They may come in the same segment. The client may have seen its handshake succeed."""
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    serving = loop.create_task(server(ours))
    await loop.sock_sendall(theirs, header + peer.hello() + b"MAIL FROM:<mallory>\r\n")
    with contextlib.suppress(EOFError, ConnectionError, ssl.SSLError):
        await peer.handshake()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await serving
    peer.close()
    await next_turns(5)
