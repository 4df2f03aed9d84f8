"""Protocols that record their callbacks, and pairs of connected ends to use them on.

The callbacks of a protocol must come in the order ``made (data | pause | resume)* eof? lost``.
`Recorder` writes them down as words in `events` (consecutive ``data`` counts once, since how
the kernel cuts a byte stream is chance) and the bytes in `received`. `made`, `eof` and `lost`
are futures to wait for; `wait_received` waits for a number of bytes.
"""

import asyncio
import socket

# All that the callbacks of a stream protocol are called.
CALLBACKS = [
    "connection_made",
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
]


class Recorder(asyncio.Protocol):
    """A protocol that writes down what happens to it."""

    transport: asyncio.Transport

    def __init__(self, *, keep_open_on_eof: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[str] = []
        self.received = bytearray()
        self.keep_open_on_eof = keep_open_on_eof
        self.made: asyncio.Future[None] = loop.create_future()
        self.eof: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self._more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = transport  # type: ignore[assignment]
        self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.events[-1] != "data":
            self.events.append("data")
        self.received += data
        self._more.set()

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.eof.set_result(None)
        return self.keep_open_on_eof

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost" if exc is None else f"lost:{type(exc).__name__}")
        self.lost.set_result(exc)
        self._more.set()

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    async def wait_received(self, size: int) -> bytes:
        """Wait until at least `size` bytes have come; EOFError if the connection ends first."""
        while len(self.received) < size:
            if self.lost.done():
                raise EOFError(f"{len(self.received)} of {size} bytes: {self.events}")
            self._more.clear()
            await self._more.wait()
        return bytes(self.received)


async def tcp_pair(
    server_protocol: type[Recorder] = Recorder, client_protocol: type[Recorder] = Recorder
) -> tuple[Recorder, Recorder]:
    """A connected server protocol and client protocol over TCP on loopback."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Recorder] = loop.create_future()

    def accept() -> Recorder:
        protocol = server_protocol()
        accepted.set_result(protocol)
        return protocol

    server = await loop.create_server(accept, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    _, client = await loop.create_connection(client_protocol, *address[:2])
    served = await accepted
    await served.made
    server.close()
    return served, client


async def with_socket(
    protocol: type[asyncio.BaseProtocol] | None = None,
) -> tuple[asyncio.Transport, Recorder, socket.socket]:
    """A transport, its protocol, and the plain non-blocking socket at the other end."""
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    transport, made = await loop.create_connection(protocol or Recorder, sock=ours)
    return transport, made, peer


async def read_to_end(peer: socket.socket) -> bytes:
    """All bytes that come through the non-blocking socket `peer` until it ends."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while chunk := await loop.sock_recv(peer, 1 << 16):
        received += chunk
    return bytes(received)


def numbered(size: int) -> bytes:
    """Bytes of which no two pieces of eight are the same."""
    return b"".join(number.to_bytes(8, "big") for number in range(size // 8 + 1))[:size]


async def next_turns(count: int = 2) -> None:
    """Let the event loop go through `count` iterations."""
    for _ in range(count):
        await asyncio.sleep(0)
