"""`sendfile` and `sock_sendfile`: by the kernel and by fallback, positions, refusals, endings."""

import asyncio
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from recorder import Recorder, next_turns, read_to_end, with_socket

Loop = asyncio.AbstractEventLoop

# More than the buffers of a socket pair and less than would make the test slow.
SIZE = 3_000_017
DATA = bytes(range(251)) * (SIZE // 251 + 1)
DATA = DATA[:SIZE]


class WithoutNumber(io.BytesIO):
    """A file that the kernel cannot send."""


@pytest.fixture(params=["kernel", "fallback"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BinaryIO]:
    """A file with DATA: one on disk, or one without a descriptor."""
    if request.param == "fallback":
        yield WithoutNumber(DATA)
        return
    with disk_file(tmp_path) as opened:
        yield opened


def disk_file(tmp_path: Path) -> BinaryIO:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path.open("rb")


def socket_pair() -> tuple[socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    return ours, peer


async def until_stuck(peer: socket.socket) -> bytes:
    """Wait until the sender has begun, and take its first bytes."""
    return await asyncio.get_running_loop().sock_recv(peer, 1000)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, None), (1000, None), (0, 5000), (1000, 5000), (SIZE - 10, 100), (SIZE, None), (0, SIZE)],
)
async def test_a_socket_gets_the_part_asked_for(
    loop: Loop, file: BinaryIO, offset: int, count: int | None
) -> None:
    ours, peer = socket_pair()
    reading = loop.create_task(read_to_end(peer))
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    assert await loop.sock_sendfile(ours, file, offset, count) == len(expected)
    ours.close()
    assert await reading == expected
    if expected:
        assert file.tell() == offset + len(expected)
    peer.close()


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, 5000), (SIZE - 10, 100)])
async def test_a_transport_sends_in_the_order_of_the_calls(
    loop: Loop, file: BinaryIO, offset: int, count: int | None
) -> None:
    transport, protocol, peer = await with_socket()
    reading = loop.create_task(read_to_end(peer))
    before = b"b" * 500_000
    transport.write(before)
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    assert await loop.sendfile(transport, file, offset, count) == len(expected)
    assert file.tell() == offset + len(expected)
    transport.write(b"after")
    assert transport.get_protocol() is protocol
    assert transport.is_reading()
    transport.close()
    assert await reading == before + expected + b"after"
    assert await protocol.lost is None
    peer.close()


async def test_an_empty_file(loop: Loop, tmp_path: Path) -> None:
    ours, peer = socket_pair()
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as empty:
        assert await loop.sock_sendfile(ours, empty) == 0
    assert await loop.sock_sendfile(ours, WithoutNumber()) == 0
    ours.close()
    peer.close()


async def test_nothing_may_be_written_while_the_kernel_sends(loop: Loop, tmp_path: Path) -> None:
    transport, protocol, peer = await with_socket()
    with disk_file(tmp_path) as file:
        sending = loop.create_task(loop.sendfile(transport, file))
        head = await until_stuck(peer)
        with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
            transport.write(b"data")
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.writelines([b"data"])
        assert not transport.is_reading()
        reading = loop.create_task(read_to_end(peer))
        assert await sending == SIZE
    transport.write(b"after")
    transport.close()
    assert head + await reading == DATA + b"after"
    assert await protocol.lost is None
    peer.close()


async def test_paused_reading_stays_paused(loop: Loop, file: BinaryIO) -> None:
    transport, protocol, peer = await with_socket()
    transport.pause_reading()
    assert await loop.sendfile(transport, file, 0, 100) == 100
    assert not transport.is_reading()
    transport.close()
    await protocol.lost
    peer.close()


async def test_data_that_came_meanwhile_is_delivered_after(loop: Loop, tmp_path: Path) -> None:
    transport, protocol, peer = await with_socket()
    with disk_file(tmp_path) as file:
        sending = loop.create_task(loop.sendfile(transport, file))
        await until_stuck(peer)
        peer.send(b"from the peer")
        await next_turns(5)
        assert protocol.received == b""
        reading = loop.create_task(read_to_end(peer))
        await sending
    assert await protocol.wait_received(13) == b"from the peer"
    transport.close()
    await reading
    await protocol.lost
    peer.close()


async def test_cancelling_leaves_the_transport_usable(loop: Loop, tmp_path: Path) -> None:
    transport, protocol, peer = await with_socket()
    with disk_file(tmp_path) as file:
        sending = loop.create_task(loop.sendfile(transport, file))
        head = await until_stuck(peer)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert transport.is_reading()
    transport.write(b"after")
    transport.close()
    received = head + await read_to_end(peer)
    assert received.endswith(b"after") and DATA.startswith(received[:-5])
    assert await protocol.lost is None
    peer.close()


async def test_cancelling_sock_sendfile_ends_the_watch(loop: Loop, tmp_path: Path) -> None:
    ours, peer = socket_pair()
    with disk_file(tmp_path) as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        await until_stuck(peer)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert not loop.remove_writer(ours)
    ours.close()
    peer.close()


async def test_the_position_after_an_error_is_what_was_sent(loop: Loop, tmp_path: Path) -> None:
    ours, peer = socket_pair()
    with disk_file(tmp_path) as file:
        sending = loop.create_task(loop.sock_sendfile(ours, file))
        await until_stuck(peer)
        peer.close()
        with pytest.raises(BrokenPipeError):
            await sending
        assert 1000 <= file.tell() < SIZE
    ours.close()


async def test_a_transport_that_is_closed_meanwhile_is_an_error(
    loop: Loop, loop_name: str, tmp_path: Path
) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio's sendfile() waits for ever when its transport is aborted")
    transport, protocol, peer = await with_socket()
    with disk_file(tmp_path) as file:
        sending = loop.create_task(loop.sendfile(transport, file))
        await until_stuck(peer)
        transport.abort()
        with pytest.raises(ConnectionError):
            await sending
        assert 1000 <= file.tell() < SIZE
    assert await protocol.lost is None
    peer.close()


async def test_a_fallback_whose_peer_goes_away_is_an_error(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    file = WithoutNumber(DATA)
    sending = loop.create_task(loop.sendfile(transport, file))
    await until_stuck(peer)
    peer.close()
    with pytest.raises(ConnectionError):
        await sending
    assert transport.get_protocol() in (protocol, None)
    await protocol.lost
    assert protocol.events[-1].startswith("lost")


async def test_fallback_follows_the_pace_of_the_peer(loop: Loop) -> None:
    transport, protocol, peer = await with_socket()
    most = 0

    class Watched(WithoutNumber):
        def readinto(self, buffer: Any) -> int:
            nonlocal most
            most = max(most, transport.get_write_buffer_size())
            return super().readinto(buffer)

    reading = loop.create_task(read_to_end(peer))
    assert await loop.sendfile(transport, Watched(DATA)) == SIZE
    _, high = transport.get_write_buffer_limits()
    assert most <= high + 2 * 16384
    assert "pause" not in protocol.events, "the protocol is not asked while the file is written"
    transport.close()
    assert await reading == DATA
    await protocol.lost
    peer.close()


async def test_without_fallback(loop: Loop) -> None:
    ours, peer = socket_pair()
    with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
        await loop.sock_sendfile(ours, WithoutNumber(DATA), fallback=False)
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
        await loop.sendfile(transport, WithoutNumber(DATA), fallback=False)
    transport.write(b"still usable")
    transport.close()
    assert await read_to_end(peer) == b"still usable"
    await protocol.lost
    peer.close()


async def test_a_file_that_cannot_be_mapped_is_none_for_the_kernel(
    loop: Loop, loop_name: str
) -> None:
    if loop_name == "asyncio" and sys.version_info >= (3, 14):
        pytest.skip("asyncio's sendfile() then seeks in the pipe, and that error comes out instead")
    ours, peer = socket_pair()
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as pipe, os.fdopen(write_end, "wb", buffering=0):
        with pytest.raises(asyncio.SendfileNotAvailableError, match="os.sendfile call failed"):
            await loop.sock_sendfile(ours, pipe, 0, 5, fallback=False)
    ours.close()
    peer.close()


@pytest.mark.parametrize(
    ("offset", "count", "error", "text"),
    [
        (-1, None, ValueError, r"offset must be a non-negative integer \(got -1\)"),
        ("0", None, TypeError, r"offset must be a non-negative integer \(got '0'\)"),
        (0, 0, ValueError, r"count must be a positive integer \(got 0\)"),
        (0, -1, ValueError, r"count must be a positive integer \(got -1\)"),
        (0, 1.5, TypeError, r"count must be a positive integer \(got 1.5\)"),
    ],
)
async def test_what_is_refused(
    loop: Loop, file: BinaryIO, offset: Any, count: Any, error: type[Exception], text: str
) -> None:
    ours, peer = socket_pair()
    with pytest.raises(error, match=text):
        await loop.sock_sendfile(ours, file, offset, count)
    ours.close()
    peer.close()


async def test_other_refusals(loop: Loop, tmp_path: Path) -> None:
    ours, peer = socket_pair()
    with disk_file(tmp_path) as file, (tmp_path / "data").open("r") as text:
        with pytest.raises(ValueError, match="file should be opened in binary mode"):
            await loop.sock_sendfile(ours, text)  # type: ignore[arg-type]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
                await loop.sock_sendfile(datagrams, file)
        datagram_transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        with pytest.raises(RuntimeError, match="sendfile is not supported for transport <"):
            await loop.sendfile(datagram_transport, file)  # type: ignore[arg-type]
        datagram_transport.close()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, file)
        await protocol.lost
    peer.close()


# asyncio does so since a late 3.13 or 3.14; oxloop everywhere.
@pytest.mark.parametrize("offset", [0, 5000, SIZE])
async def test_the_position_before_does_not_matter(
    loop: Loop, loop_name: str, file: BinaryIO, offset: int
) -> None:
    if loop_name == "asyncio" and sys.version_info < (3, 14):
        pytest.skip("asyncio's fallback then begins at the position if the offset is 0")
    ours, peer = socket_pair()
    reading = loop.create_task(read_to_end(peer))
    file.seek(123)
    assert await loop.sock_sendfile(ours, file, offset) == SIZE - offset
    assert file.tell() == SIZE
    ours.close()
    assert await reading == DATA[offset:]
    peer.close()


async def test_a_pipe_is_sent_from_where_it_is(loop: Loop, loop_name: str) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio seeks in the pipe, before or after, and that error comes out")
    ours, peer = socket_pair()
    read_end, write_end = os.pipe()
    os.write(write_end, b"from a pipe")
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        assert await loop.sock_sendfile(ours, pipe, 0, 11) == len(b"from a pipe")
    ours.close()
    assert await read_to_end(peer) == b"from a pipe"
    peer.close()
