"""Large messages: what comes after one goes straight into the object that the protocol gets.

A protocol must see no difference: in what follows large and small messages alternate, the protocol
changes, pauses, closes and fails in between, and not a byte is lost, doubled or out of place.
"""

import asyncio
import random
import socket
from typing import Any

import pytest
from recorder import Recorder, next_turns, numbered

Loop = asyncio.AbstractEventLoop

LARGE = 100 * 1024


class Sizes(Recorder):
    """Notes the type and the size of each piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[tuple[type, int]] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append((type(data), len(data)))
        super().data_received(data)


@pytest.fixture(params=[socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    return request.param


def connected(family: socket.AddressFamily) -> tuple[socket.socket, socket.socket]:
    """Two ends with room for many large messages, non-blocking."""
    if family == socket.AF_UNIX:
        ends = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            ends = (client, listener.accept()[0])
    for end in ends:
        end.setblocking(False)
    return ends


async def test_sizes_of_all_kinds_in_turn(loop: Loop, family: socket.AddressFamily) -> None:
    chance = random.Random(7)
    sizes = [LARGE, LARGE, 1, LARGE, 16 * 1024, 16 * 1024 - 1, 3, 300 * 1024, LARGE, 7]
    sizes += [chance.choice((1, 100, 5000, 20_000, LARGE, 400_000)) for _ in range(40)]
    message = numbered(max(sizes))
    ours, peer = connected(family)
    transport, protocol = await loop.create_connection(Sizes, sock=ours)
    expected = bytearray()
    for size in sizes:
        await loop.sock_sendall(peer, message[:size])
        expected += message[:size]
        await protocol.wait_received(len(expected))
    assert protocol.received == expected
    assert {kind for kind, _ in protocol.pieces} == {bytes}
    assert all(size > 0 for _, size in protocol.pieces)
    peer.close()
    assert await protocol.lost is None
    assert protocol.events == ["made", "data", "eof", "lost"]


async def test_the_end_after_a_large_message(loop: Loop, family: socket.AddressFamily) -> None:
    ours, peer = connected(family)
    _, protocol = await loop.create_connection(Sizes, sock=ours)
    message = numbered(LARGE)
    await loop.sock_sendall(peer, message)
    await protocol.wait_received(LARGE)
    peer.close()
    assert await protocol.lost is None
    assert protocol.received == message


async def test_a_reset_after_a_large_message(loop: Loop) -> None:
    ours, peer = connected(socket.AF_INET)
    _, protocol = await loop.create_connection(Sizes, sock=ours)
    await loop.sock_sendall(peer, numbered(LARGE))
    await protocol.wait_received(LARGE)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    assert isinstance(await protocol.lost, ConnectionResetError)


async def test_pause_and_resume_between_large_messages(
    loop: Loop, family: socket.AddressFamily
) -> None:
    """Nothing is delivered while paused, and nothing is lost."""

    class Pausing(Sizes):
        def data_received(self, data: bytes) -> None:
            assert not self.is_paused
            super().data_received(data)
            self.transport.pause_reading()
            self.is_paused = True
            loop.call_soon(self.resume)

        def resume(self) -> None:
            self.is_paused = False
            self.transport.resume_reading()

        is_paused = False

    ours, peer = connected(family)
    transport, protocol = await loop.create_connection(Pausing, sock=ours)
    message = numbered(1_000_000)
    await loop.sock_sendall(peer, message)
    await protocol.wait_received(len(message))
    assert protocol.received == message
    transport.abort()
    peer.close()
    await protocol.lost


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_nothing_comes_after_a_close(loop: Loop, method: str) -> None:
    class Closing(Sizes):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.pieces) == 2:
                getattr(self.transport, method)()

    ours, peer = connected(socket.AF_UNIX)
    _, protocol = await loop.create_connection(Closing, sock=ours)
    await loop.sock_sendall(peer, numbered(20_000))
    await protocol.wait_received(20_000)
    sending = asyncio.ensure_future(loop.sock_sendall(peer, numbered(2_000_000)))
    assert await protocol.lost is None
    assert len(protocol.pieces) == 2
    with pytest.raises(ConnectionError):
        await sending
    peer.close()


async def test_a_protocol_that_fails(loop: Loop, errors: list[dict[str, Any]]) -> None:
    class Failing(Sizes):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.pieces) == 2:
                raise LookupError("of the second piece")

    ours, peer = connected(socket.AF_UNIX)
    _, protocol = await loop.create_connection(Failing, sock=ours)
    for _ in range(2):
        await loop.sock_sendall(peer, numbered(20_000))
        await protocol.wait_received(20_000)
        await next_turns(2)
    assert isinstance(await protocol.lost, LookupError)
    assert [report["message"] for report in errors] == [
        "Fatal error: protocol.data_received() call failed."
    ]
    errors.clear()
    peer.close()


async def test_the_protocol_changes(loop: Loop, family: socket.AddressFamily) -> None:
    """A protocol with a buffer of its own follows, then a plain one again, in one callback each."""

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.received = bytearray()
            self.buffer = bytearray(70_000)

        def get_buffer(self, sizehint: int) -> Any:
            return memoryview(self.buffer)

        def buffer_updated(self, nbytes: int) -> None:
            received.extend(self.buffer[:nbytes])
            kinds.append("buffered")
            transport.set_protocol(Plain())

    class Plain(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.extend(data)
            kinds.append("plain")
            transport.set_protocol(Buffered())

    received = bytearray()
    kinds: list[str] = []
    ours, peer = connected(family)
    transport, _ = await loop.create_connection(Plain, sock=ours)
    message = numbered(1_000_000)
    await loop.sock_sendall(peer, message)
    while len(received) < len(message):
        await asyncio.sleep(0)
    assert received == message
    assert kinds[:4] == ["plain", "buffered", "plain", "buffered"]
    transport.abort()
    peer.close()
    await next_turns(3)


async def test_streams_of_large_messages(loop: Loop, family: socket.AddressFamily) -> None:
    ours, peer = connected(family)
    reader, writer = await asyncio.open_connection(sock=ours)
    message = numbered(LARGE)
    for count in (LARGE, 1, LARGE, LARGE, 10):
        sending = asyncio.ensure_future(loop.sock_sendall(peer, message[:count]))
        assert await reader.readexactly(count) == message[:count]
        await sending
    writer.close()
    await writer.wait_closed()
    peer.close()
