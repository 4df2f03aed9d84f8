"""`BufferedProtocol`: reads go into the protocol's own buffer."""

import asyncio
from typing import Any

from recorder import Recorder, next_turns, with_socket

Loop = asyncio.AbstractEventLoop


class Buffered(asyncio.BufferedProtocol):
    """Collects what comes through a small buffer."""

    size = 7

    def __init__(self) -> None:
        self.buffer = bytearray(self.size)
        self.hints: list[int] = []
        self.received = bytearray()
        self.events: list[str] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def get_buffer(self, sizehint: int) -> Any:
        self.hints.append(sizehint)
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.received += self.buffer[:nbytes]

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost" if exc is None else f"lost:{type(exc).__name__}")
        self.lost.set_result(exc)


async def test_bytes_arrive_in_order(loop: Loop) -> None:
    _, protocol, peer = await with_socket(Buffered)
    data = bytes(range(256)) * 40
    await loop.sock_sendall(peer, data)
    peer.close()
    assert await protocol.lost is None
    assert protocol.received == data
    assert protocol.events == ["made", "eof", "lost"]
    assert set(protocol.hints) == {-1}


async def test_an_empty_buffer_is_an_error(loop: Loop, errors: list[dict[str, Any]]) -> None:
    class Empty(Buffered):
        size = 0

    _, protocol, peer = await with_socket(Empty)
    peer.send(b"x")
    assert isinstance(await protocol.lost, RuntimeError)
    assert "get_buffer() returned an empty buffer" in str(errors.pop()["exception"])
    peer.close()


async def test_a_failing_get_buffer(loop: Loop, errors: list[dict[str, Any]]) -> None:
    class Failing(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            raise KeyError("no buffer")

    _, protocol, peer = await with_socket(Failing)
    peer.send(b"x")
    assert isinstance(await protocol.lost, KeyError)
    assert "get_buffer() call failed" in errors.pop()["message"]
    peer.close()


async def test_a_failing_buffer_updated(loop: Loop, errors: list[dict[str, Any]]) -> None:
    class Failing(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            raise KeyError("not understood")

    _, protocol, peer = await with_socket(Failing)
    peer.send(b"x")
    assert isinstance(await protocol.lost, KeyError)
    assert "buffer_updated() call failed" in errors.pop()["message"]
    peer.close()


async def test_pause_inside_buffer_updated(loop: Loop) -> None:
    class Pausing(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    transport, protocol, peer = await with_socket(Pausing)
    peer.send(b"x" * 100)
    while not protocol.received:
        await asyncio.sleep(0)
    await next_turns(5)
    assert len(protocol.received) == 7
    transport.close()
    await protocol.lost
    peer.close()


async def test_the_kind_of_protocol_may_change_while_reading(loop: Loop) -> None:
    transport, buffered, peer = await with_socket(Buffered)
    peer.send(b"buffered")
    while len(buffered.received) < 8:
        await asyncio.sleep(0)
    plain = Recorder()
    plain.transport, plain.events = transport, ["made"]
    transport.set_protocol(plain)
    peer.send(b"plain")
    assert await plain.wait_received(5) == b"plain"
    transport.set_protocol(buffered)
    peer.send(b"again")
    while len(buffered.received) < 13:
        await asyncio.sleep(0)
    assert buffered.received == b"bufferedagain"
    transport.close()
    await buffered.lost
    peer.close()
