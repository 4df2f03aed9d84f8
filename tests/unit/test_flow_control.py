"""Flow control: limits, pause and resume once each, at the right sizes."""

import asyncio
import socket
from typing import Any

import pytest
from recorder import Recorder, next_turns, with_socket

Loop = asyncio.AbstractEventLoop


async def fill(transport: asyncio.Transport) -> None:
    """Write until the kernel takes no more, so that further bytes stay in the buffer."""
    transport.set_write_buffer_limits(high=1 << 40)
    while transport.get_write_buffer_size() == 0:
        transport.write(b"f" * 65536)


async def drain(peer: socket.socket, transport: asyncio.Transport, size: int) -> None:
    """Read at the peer until at most `size` bytes are in the buffer."""
    while transport.get_write_buffer_size() > size:
        try:
            peer.recv(4096)
        except BlockingIOError:
            pass
        await asyncio.sleep(0)


async def end(transport: asyncio.Transport, protocol: Recorder, peer: socket.socket) -> None:
    transport.abort()
    await protocol.lost
    peer.close()


async def test_limits(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    limits: Any = transport.get_write_buffer_limits
    assert limits() == (16 * 1024, 64 * 1024)
    transport.set_write_buffer_limits(high=4000)
    assert limits() == (1000, 4000)
    transport.set_write_buffer_limits(low=500)
    assert limits() == (500, 2000)
    transport.set_write_buffer_limits(high=0)
    assert limits() == (0, 0)
    transport.set_write_buffer_limits(high=10, low=10)
    assert limits() == (10, 10)
    transport.set_write_buffer_limits()
    assert limits() == (16 * 1024, 64 * 1024)
    for wrong in ({"high": 1, "low": 2}, {"high": -1, "low": -1}, {"high": 1, "low": -1}):
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(**wrong)
    await end(transport, protocol, peer)


async def test_pause_and_resume_come_once(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    await fill(transport)
    base = transport.get_write_buffer_size()
    transport.set_write_buffer_limits(high=base + 1000, low=500)
    transport.write(b"x" * 1000)
    assert protocol.events == ["made"], "at the high mark nothing happens yet"
    transport.write(b"x")
    assert protocol.events == ["made", "pause"], "above it the protocol is paused at once"
    transport.write(b"x" * 5000)
    assert protocol.events == ["made", "pause"]
    assert transport.get_write_buffer_size() == base + 6001
    await drain(peer, transport, 501)
    await drain(peer, transport, 500)
    await next_turns(2)
    assert protocol.events == ["made", "pause", "resume"]
    await drain(peer, transport, 0)
    assert protocol.events == ["made", "pause", "resume"]
    await end(transport, protocol, peer)


async def test_zero_limits_pause_at_the_first_buffered_byte(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    transport.set_write_buffer_limits(high=0)
    transport.write(b"small")
    assert protocol.events == ["made"], "what the kernel takes at once is not buffered"
    while transport.get_write_buffer_size() == 0:
        transport.write(b"f" * 65536)
    assert protocol.events == ["made", "pause"]
    await drain(peer, transport, 0)
    await next_turns(2)
    assert protocol.events == ["made", "pause", "resume"]
    await end(transport, protocol, peer)


async def test_a_write_in_resume_may_pause_again(loop: Loop) -> None:
    class Eager(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            if self.events.count("resume") == 1:
                self.transport.write(b"x" * (4 << 20))

    transport, protocol, peer = await with_socket(Eager)
    transport.write(b"x" * (4 << 20))
    while protocol.events.count("resume") < 2:
        await drain(peer, transport, 0)
        await asyncio.sleep(0)
    assert protocol.events == ["made", "pause", "resume", "pause", "resume"]
    await end(transport, protocol, peer)


@pytest.mark.parametrize("size", [100, 3_000_000], ids=["at once", "queued"])
async def test_a_write_in_resume_is_sent_before_the_end(
    loop: Loop, loop_name: str, size: int
) -> None:
    """The transport is closing already, and what was queued is sent."""
    if loop_name == "asyncio" and size > 100:
        pytest.skip("asyncio ends the connection with the bytes still queued")
    transport, protocol, peer = await with_socket()

    def write_more() -> None:
        protocol.events.append("resume")
        if protocol.events.count("resume") == 1:
            transport.write(b"B" * size)

    protocol.resume_writing = write_more  # type: ignore[method-assign]
    transport.write(b"A" * 3_000_000)
    transport.close()
    got = bytearray()
    while data := await loop.sock_recv(peer, 1 << 16):
        got += data
    assert (got.count(b"A"), got.count(b"B")) == (3_000_000, size)
    assert await protocol.lost is None
    assert protocol.events[:3] == ["made", "pause", "resume"]
    peer.close()


async def test_abort_while_paused(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    transport.write(b"x" * (4 << 20))
    assert protocol.events == ["made", "pause"]
    await end(transport, protocol, peer)
    assert protocol.events == ["made", "pause", "lost"]


async def test_drain_of_streams(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(b"x" * (4 << 20))
    draining = loop.create_task(writer.drain())
    await next_turns(3)
    assert not draining.done()
    await drain(peer, writer.transport, 0)
    await draining
    writer.transport.abort()
    await next_turns(3)
    peer.close()
