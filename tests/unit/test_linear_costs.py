"""Four times as much work costs about four times the processor time, not sixteen times."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import loops
import oxloop
import pytest
from recorder import with_socket
from tls_peer import with_peer

Loop = asyncio.AbstractEventLoop

COUNT = 10_000
PIECE = b"0123456789abcdef"

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


async def cost(work: Callable[[int], Awaitable[float]], count: int) -> float:
    """The processor time of `work`, in seconds; the least of three, since others may interfere."""
    return min([await work(count) for _ in range(3)])


async def assert_linear(work: Callable[[int], Awaitable[float]]) -> None:
    small = await cost(work, COUNT)
    large = await cost(work, 4 * COUNT)
    # Below 5 ms the rest of the process counts too much.
    assert large < 10 * max(small, 0.005), (small, large)


@pytest.mark.parametrize("how", ["write", "writelines"])
@only_ours
async def test_small_writes_while_the_socket_is_full(loop: Loop, how: str) -> None:
    """On oxloop only: asyncio adds up the sizes of all pieces each time, since Python 3.12."""

    async def work(count: int) -> float:
        transport, protocol, peer = await with_socket()
        transport.write(bytes(1 << 20))
        full = transport.get_write_buffer_size()
        assert full > 0
        started = time.process_time()
        if how == "write":
            for _ in range(count):
                transport.write(PIECE)
        else:
            transport.writelines([PIECE] * count)
        assert transport.get_write_buffer_size() == full + count * len(PIECE)
        received = 0
        while received < (1 << 20) + count * len(PIECE):
            received += len(await loop.sock_recv(peer, 1 << 16))
        took = time.process_time() - started
        assert transport.get_write_buffer_size() == 0
        transport.abort()
        await protocol.lost
        peer.close()
        return took

    await assert_linear(work)


@only_ours
async def test_small_writes_over_tls_while_the_socket_is_full(loop: Loop) -> None:
    """On oxloop only: asyncio's TLS takes the pieces from the front of a list."""

    async def work(count: int) -> float:
        transport, protocol, peer = await with_peer()
        transport.write(bytes(1 << 20))
        transport.write(bytes(1 << 20))
        started = time.process_time()
        for _ in range(count):
            transport.write(PIECE)
        # A record for each piece; they are read as they are and not decrypted.
        transport.close()
        received = 0
        while received < (2 << 20) + count * len(PIECE):
            received += len(await loop.sock_recv(peer.sock, 1 << 16))
        took = time.process_time() - started
        transport.abort()
        await protocol.lost
        peer.close()
        return took

    await assert_linear(work)


@pytest.fixture
def new_reader(loop_name: str) -> Any:
    """The stream readers of the loop under test."""
    return asyncio.StreamReader if loop_name == "asyncio" else oxloop.StreamReader


@pytest.mark.parametrize("how", ["readexactly", "read", "readline", "readuntil"])
async def test_small_pieces_out_of_a_full_reader(loop: Loop, new_reader: Any, how: str) -> None:
    piece = PIECE[:-1] + b"\n"
    arguments: Any = {"readexactly": (16,), "read": (16,), "readline": (), "readuntil": (b"\n",)}

    async def work(count: int) -> float:
        reader = new_reader(limit=1 << 30)
        started = time.process_time()
        for _ in range(count):
            reader.feed_data(piece)
        for _ in range(count):
            assert await getattr(reader, how)(*arguments[how]) == piece
        return time.process_time() - started

    await assert_linear(work)


@pytest.mark.parametrize("how", ["readexactly", "read", "readline", "readuntil"])
async def test_small_pieces_for_one_who_waits(loop: Loop, new_reader: Any, how: str) -> None:
    """Each piece wakes the reader, which goes on waiting for the whole."""

    async def work(count: int) -> float:
        size = count * len(PIECE) + 1
        arguments: Any = {
            "readexactly": (size,),
            "read": (),
            "readline": (),
            "readuntil": (b"\n",),
        }
        reader = new_reader(limit=1 << 30)
        started = time.process_time()
        reading = loop.create_task(getattr(reader, how)(*arguments[how]))
        for _ in range(count):
            reader.feed_data(PIECE)
            await asyncio.sleep(0)
        reader.feed_data(b"\n")
        reader.feed_eof()
        assert len(await reading) == size
        return time.process_time() - started

    await assert_linear(work)
