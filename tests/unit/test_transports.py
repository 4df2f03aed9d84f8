"""Stream transports: what may be written, closing, aborting, half-closing, what they tell."""

import asyncio
import socket
import struct
import sys
from typing import Any

import pytest
from recorder import Recorder, next_turns, read_to_end, tcp_pair, with_socket

Loop = asyncio.AbstractEventLoop


class KeepsOpen(Recorder):
    """Keeps its write side open after the peer's end of stream."""

    def __init__(self) -> None:
        super().__init__(keep_open_on_eof=True)


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(bytearray(b"writable view")),
        memoryview(b"0123456789")[2:5],
    ],
    ids=lambda data: type(data).__name__,
)
async def test_what_may_be_written(loop: Loop, data: Any) -> None:
    transport, protocol, peer = await with_socket()
    transport.write(data)
    transport.close()
    assert await read_to_end(peer) == bytes(data)
    await protocol.lost
    peer.close()


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"]])
async def test_what_may_not_be_written(loop: Loop, data: Any) -> None:
    transport, protocol, peer = await with_socket()
    wanted = "bytes, bytearray, or memoryview" if sys.version_info >= (3, 14) else "bytes-like"
    with pytest.raises(TypeError, match=f"data argument must be a {wanted} object"):
        transport.write(data)
    transport.write(b"fine")
    transport.close()
    assert await read_to_end(peer) == b"fine"
    await protocol.lost
    peer.close()


async def test_a_non_contiguous_view_is_never_sent_in_part(
    loop: Loop, loop_name: str, errors: list[dict[str, Any]]
) -> None:
    """asyncio takes the connection down; a loop may also refuse the view or send it whole."""
    transport, protocol, peer = await with_socket()
    expected = b"abc"
    try:
        transport.write(memoryview(b"a-b-c-")[::2])
    except (BufferError, TypeError, ValueError):
        expected = b""
    if transport.is_closing():
        assert isinstance(errors.pop()["exception"], BufferError)
        expected = b""
    transport.close()
    assert await read_to_end(peer) == expected
    await protocol.lost
    peer.close()


async def test_writelines(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three"), b""])
    transport.writelines(part for part in (b" four", b" five"))
    transport.writelines([])
    transport.close()
    assert await read_to_end(peer) == b"one two three four five"
    await protocol.lost
    peer.close()


async def test_writelines_of_many_and_large(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    chunks = [bytes([number % 256]) * (1 + 97 * number % 9000) for number in range(3000)]
    transport.writelines(chunks)
    transport.close()
    assert await read_to_end(peer) == b"".join(chunks)
    await protocol.lost
    peer.close()


async def test_many_writes_keep_their_order(loop: Loop) -> None:
    served, client = await tcp_pair()
    expected = bytearray()
    for number in range(2000):
        chunk = b"%d," % number * (1 + number % 50)
        client.transport.write(chunk)
        expected += chunk
        if number % 100 == 0:
            await asyncio.sleep(0)
    client.transport.close()
    assert await served.wait_received(len(expected)) == expected
    await served.lost
    await client.lost
    assert served.events == ["made", "data", "eof", "lost"]


async def test_close_sends_what_is_buffered(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    data = b"0123456789abcdef" * (4 << 16)
    transport.write(data)
    assert transport.get_write_buffer_size() > 0
    transport.close()
    assert transport.is_closing()
    assert protocol.events in (["made"], ["made", "pause"])
    assert await read_to_end(peer) == data
    assert await protocol.lost is None
    peer.close()


async def test_abort_drops_what_is_buffered(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    data = b"x" * (8 << 20)
    transport.write(data)
    transport.abort()
    assert transport.is_closing()
    assert "lost" not in protocol.events
    assert await protocol.lost is None
    assert len(await read_to_end(peer)) < len(data)
    peer.close()


async def test_connection_lost_is_never_called_inside_close(loop: Loop) -> None:
    for end in ("close", "abort"):
        transport, protocol, peer = await with_socket()
        getattr(transport, end)()
        assert protocol.events == ["made"]
        transport.close()
        transport.abort()
        await protocol.lost
        await next_turns(3)
        assert protocol.events == ["made", "lost"]
        peer.close()


async def test_half_close_by_the_peer(loop: Loop) -> None:
    transport, protocol, peer = await with_socket(KeepsOpen)
    peer.send(b"question")
    peer.shutdown(socket.SHUT_WR)
    await protocol.eof
    assert protocol.received == b"question"
    assert not transport.is_closing()
    transport.write(b"answer" * 100_000)
    transport.close()
    assert await read_to_end(peer) == b"answer" * 100_000
    await protocol.lost
    assert [event for event in protocol.events if event not in ("pause", "resume")] == [
        "made",
        "data",
        "eof",
        "lost",
    ]
    peer.close()


async def test_end_of_stream_closes_by_default(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    peer.close()
    await protocol.lost
    assert protocol.events == ["made", "eof", "lost"]
    assert transport.is_closing()


async def test_write_eof(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    assert transport.can_write_eof() is True
    data = b"y" * (2 << 20)
    transport.write(data)
    transport.write_eof()
    transport.write_eof()
    with pytest.raises(RuntimeError, match="Cannot call write\\(\\) after write_eof\\(\\)"):
        transport.write(b"late")
    assert await read_to_end(peer) == data
    peer.send(b"answer")
    assert await protocol.wait_received(6) == b"answer"
    transport.close()
    await protocol.lost
    peer.close()


async def test_write_after_close(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    transport, protocol, peer = await with_socket()
    transport.close()
    await protocol.lost
    for _ in range(7):
        transport.write(b"dropped")
    texts = [record.getMessage() for record in caplog.records]
    assert texts and set(texts) == {"socket.send() raised exception."}
    assert await read_to_end(peer) == b""
    peer.close()


async def test_writing_to_a_peer_that_is_gone(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    transport.pause_reading()
    peer.close()
    transport.write(b"into the void")
    error = await protocol.lost
    assert isinstance(error, BrokenPipeError | ConnectionResetError)
    transport.write(b"dropped")


async def test_a_reset(loop: Loop) -> None:
    served, client = await tcp_pair()
    sock = client.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()
    assert isinstance(await served.lost, ConnectionResetError)
    assert served.events == ["made", "lost:ConnectionResetError"]
    await client.lost


async def test_extra_info(loop: Loop) -> None:
    served, client = await tcp_pair()
    transport = client.transport
    sock = transport.get_extra_info("socket")
    assert isinstance(sock, asyncio.trsock.TransportSocket)  # type: ignore[attr-defined]
    assert transport.get_extra_info("sockname") == served.transport.get_extra_info("peername")
    assert transport.get_extra_info("peername") == served.transport.get_extra_info("sockname")
    assert transport.get_extra_info("unknown") is None
    assert transport.get_extra_info("unknown", 5) == 5
    assert sock.fileno() > 0
    transport.close()
    await client.lost
    await served.lost
    await next_turns(2)
    assert transport.get_extra_info("peername") is not None
    assert transport.get_extra_info("sockname") is not None
    assert transport.get_extra_info("socket").fileno() == -1


async def test_pause_and_resume_reading(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    assert transport.is_reading()
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    peer.send(b"held back")
    await next_turns(5)
    assert protocol.received == b""
    transport.resume_reading()
    transport.resume_reading()
    assert transport.is_reading()
    assert await protocol.wait_received(9) == b"held back"
    transport.close()
    assert not transport.is_reading()
    transport.pause_reading()
    transport.resume_reading()
    assert not transport.is_reading()
    await protocol.lost
    peer.close()


async def test_set_protocol(loop: Loop) -> None:
    transport, first, peer = await with_socket()
    second = Recorder()
    second.transport, second.events = transport, ["made"]
    assert transport.get_protocol() is first
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    peer.send(b"x")
    assert await second.wait_received(1) == b"x"
    peer.close()
    await second.lost
    assert first.events == ["made"]


async def test_connect_accepted_socket(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    client.setblocking(False)
    transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
    assert isinstance(transport, asyncio.Transport)
    assert transport.get_extra_info("peername") == client.getsockname()
    await loop.sock_sendall(client, b"ping")
    assert await protocol.wait_received(4) == b"ping"
    transport.write(b"pong")
    transport.close()
    assert await read_to_end(client) == b"pong"
    await protocol.lost
    client.close()
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await loop.connect_accepted_socket(Recorder, datagram)


async def test_an_unclosed_transport_warns(loop: Loop, loop_name: str) -> None:
    """asyncio forgets a transport that is paused and idle; oxloop holds it until it is closed."""
    import gc

    if loop_name == "oxloop":
        # The same warning, when the loop goes: see test_loop_close_warns_of_open_transports.
        return
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport, protocol, peer = await with_socket()
        transport.pause_reading()
        del transport, protocol
        gc.collect()
    peer.close()
    assert any("unclosed transport" in str(warning.message) for warning in caught)


async def test_repr(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    assert "fd=" in repr(transport)
    transport.close()
    assert "clos" in repr(transport)
    await protocol.lost
    peer.close()


def test_loop_close_warns_of_open_transports(loop_factory: Any) -> None:
    """A transport that nobody closed is reported, at the latest when its loop is gone."""
    import gc
    import warnings

    async def leave_open() -> socket.socket:
        transport, protocol, peer = await with_socket()
        transport.pause_reading()
        return peer

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = loop_factory()
        peer = loop.run_until_complete(leave_open())
        loop.close()
        del loop
        gc.collect()
    peer.close()
    assert any("unclosed transport" in str(warning.message) for warning in caught)
