"""The ways in which a TCP connection may begin and end, a coroutine each.

All talk to one `Echo` server, which does what the first byte of a connection asks for.
"""

import asyncio
import itertools
import socket
import struct
import weakref
from typing import Any

# Every protocol and transport that is alive.
alive: "weakref.WeakSet[Any]" = weakref.WeakSet()


class Tracked(asyncio.Protocol):
    """A protocol that is counted, with its transport, as long as it lives."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        alive.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        alive.add(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        # Not the error: its traceback leads back to the protocol.
        self.lost.set_result(None)


class Echo(Tracked):
    """The server's side: the first byte says what to do."""

    keeps_open = False

    def data_received(self, data: bytes) -> None:
        match data[:1]:
            case b"c":
                self.transport.close()
            case b"a":
                self.transport.abort()
            case b"h":
                self.keeps_open = True
            case b"r":
                raise ValueError("as asked")
            case b"m":
                # More than the peer will read.
                self.transport.write(bytes(1 << 20))
            case _:
                self.transport.write(data)

    def eof_received(self) -> bool:
        if self.keeps_open:
            self.transport.write(b"after your eof")
            self.transport.write_eof()
            self.transport.close()
        return self.keeps_open


class Place:
    """Where the server is, and a socket that never answers."""

    def __init__(self, port: int, silent: tuple[str, int], refusing: int) -> None:
        self.port, self.silent, self.refusing = port, silent, refusing
        # One address has too few ports for this many connections in a row.
        self._hosts = itertools.cycle(f"127.0.0.{last}" for last in range(1, 250))

    def address(self) -> tuple[str, int]:
        """The server, by another address each time."""
        return next(self._hosts), self.port

    async def connect(self) -> Tracked:
        """A connection to the server."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(Tracked, *self.address())
        return protocol


async def client_closes(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.write(b"e")
    protocol.transport.close()
    await protocol.lost


async def client_aborts(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.write(bytes(1 << 18))
    protocol.transport.abort()
    await protocol.lost


async def client_sends_eof(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.write_eof()
    await protocol.lost


async def client_resets(place: Place) -> None:
    protocol = await place.connect()
    sock = protocol.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    protocol.transport.write(b"e")
    protocol.transport.abort()
    await protocol.lost


async def server_closes(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.write(b"c")
    await protocol.lost


async def server_aborts(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.write(b"a")
    await protocol.lost


async def half_closes(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.write(b"h")
    await asyncio.sleep(0)
    protocol.transport.write_eof()
    await protocol.lost


async def server_raises(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.write(b"r")
    await protocol.lost


async def goes_away_without_reading(place: Place) -> None:
    protocol = await place.connect()
    protocol.transport.pause_reading()
    protocol.transport.write(b"m")
    await asyncio.sleep(0)
    protocol.transport.close()
    await protocol.lost


async def is_refused(place: Place) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(Tracked, "127.0.0.1", place.refusing)
    except ConnectionRefusedError:
        return
    raise AssertionError("somebody listens there")


async def is_cancelled_while_connecting(place: Place) -> None:
    loop = asyncio.get_running_loop()
    connecting = loop.create_task(loop.create_connection(Tracked, *place.silent))
    for _ in range(3):
        await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])
    if not connecting.cancelled():
        connecting.result()[0].abort()
        await connecting.result()[1].lost


async def is_cancelled_when_connected(place: Place) -> None:
    loop = asyncio.get_running_loop()
    sock = socket.create_connection(place.address())
    sock.setblocking(False)
    connecting = loop.create_task(loop.create_connection(Tracked, sock=sock))
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])
    if not connecting.cancelled():
        connecting.result()[0].close()
        await connecting.result()[1].lost
    sock.close()


async def factory_raises(place: Place) -> None:
    def factory() -> Any:
        raise ValueError("no protocol")

    try:
        await asyncio.get_running_loop().create_connection(factory, *place.address())
    except ValueError:
        return
    raise AssertionError("the error is lost")


async def streams(place: Place) -> None:
    reader, writer = await asyncio.open_connection(*place.address())
    writer.write(b"echo")
    await writer.drain()
    assert await reader.readexactly(4) == b"echo"
    writer.close()
    await writer.wait_closed()


ALL = [
    client_closes,
    client_aborts,
    client_sends_eof,
    client_resets,
    server_closes,
    server_aborts,
    half_closes,
    server_raises,
    goes_away_without_reading,
    is_refused,
    is_cancelled_while_connecting,
    is_cancelled_when_connected,
    factory_raises,
    streams,
]
