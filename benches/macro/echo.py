"""Echo servers, one for each way that asyncio has to receive and send bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

READ_BYTES_MAX = 256 * 1024
CERTIFICATE = Path(__file__).resolve().parent.parent.parent / "tests/certificates/localhost.pem"


class _Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve_protocol(listener: socket.socket) -> None:
    """By `Protocol.data_received` and `transport.write`."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Echo, sock=listener)
    await server.serve_forever()


async def serve_tls(listener: socket.socket) -> None:
    """The same over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Echo, sock=listener, ssl=context)
    await server.serve_forever()


class _BufferedEcho(asyncio.BufferedProtocol):
    transport: asyncio.Transport
    # One for all connections: what has been received is copied out before the next read.
    buffer = memoryview(bytearray(READ_BYTES_MAX))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy: some transports keep what they cannot send at once by reference.
        self.transport.write(bytes(self.buffer[:nbytes]))


async def serve_buffered(listener: socket.socket) -> None:
    """By `BufferedProtocol.buffer_updated` and `transport.write`."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_BufferedEcho, sock=listener)
    await server.serve_forever()


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(READ_BYTES_MAX):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve_streams(listener: socket.socket) -> None:
    """By `StreamReader.read`, `StreamWriter.write` and `drain`."""
    server = await asyncio.start_server(_echo_stream, sock=listener)
    await server.serve_forever()


async def _echo_sock(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := await loop.sock_recv(client, READ_BYTES_MAX):
                await loop.sock_sendall(client, data)
        except ConnectionError:
            pass


async def serve_sock(listener: socket.socket) -> None:
    """By `loop.sock_accept`, `sock_recv` and `sock_sendall`."""
    loop = asyncio.get_running_loop()
    serving: set[asyncio.Task[None]] = set()
    while True:
        client, _ = await loop.sock_accept(listener)
        task = loop.create_task(_echo_sock(client))
        serving.add(task)
        task.add_done_callback(serving.discard)
