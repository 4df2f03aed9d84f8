"""`set_write_buffer_limits` with numbers that are no ordinary sizes: floats, huge, negative.

asyncio compares whatever it is given; a loop that counts in machine words must round floats and
bound what does not fit, and must not overflow when it derives one limit from the other. The same
holds for streams, the writing ends of pipes, and datagrams.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from recorder import Recorder, next_turns, with_socket

Loop = asyncio.AbstractEventLoop

HUGE = 1 << 60


@contextlib.asynccontextmanager
async def stream(loop: Loop) -> AsyncIterator[Any]:
    transport, protocol, peer = await with_socket()
    yield transport
    transport.abort()
    await protocol.lost
    peer.close()


@contextlib.asynccontextmanager
async def pipe(loop: Loop) -> AsyncIterator[Any]:
    reader, writer = os.pipe()
    transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(writer, "wb", 0))
    yield transport
    transport.abort()
    await protocol.lost
    os.close(reader)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set()


@contextlib.asynccontextmanager
async def datagrams(loop: Loop) -> AsyncIterator[Any]:
    address = ("127.0.0.1", 0)
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=address)
    yield transport
    transport.abort()
    await protocol.lost.wait()


every_kind = pytest.mark.parametrize("kind", [stream, pipe, datagrams])


def whole(transport: Any) -> tuple[int, int]:
    """The limits, rounded down."""
    low, high = transport.get_write_buffer_limits()
    return int(low), int(high)


@every_kind
async def test_floats(loop: Loop, kind: Any) -> None:
    async with kind(loop) as transport:
        for given, expected in (
            ({"high": 1.5}, (0, 1)),
            ({"high": 4000.0}, (1000, 4000)),
            ({"low": 10.0}, (10, 40)),
            ({"high": 100.9, "low": 50.1}, (50, 100)),
        ):
            transport.set_write_buffer_limits(**given)
            assert whole(transport) == expected


HUGE_LIMITS = [
    {"low": 1 << 62},
    {"high": 1 << 63},
    {"high": sys.maxsize},
    {"low": (1 << 61) + 5},
    {"high": 1 << 64, "low": 1 << 64},
    {"high": 10**30},
    {"low": 10**30},
    {"high": 1e30},
]


@every_kind
@pytest.mark.parametrize("given", HUGE_LIMITS, ids=repr)
async def test_huge_numbers(loop: Loop, kind: Any, given: dict[str, Any]) -> None:
    """They are accepted; the value read back may be bounded."""
    async with kind(loop) as transport:
        transport.set_write_buffer_limits(**given)
        low, high = whole(transport)
        assert HUGE <= low <= high


@pytest.mark.parametrize("given", HUGE_LIMITS, ids=repr)
async def test_huge_numbers_are_as_good_as_no_limit(loop: Loop, given: dict[str, Any]) -> None:
    transport, protocol, peer = await with_socket()
    transport.set_write_buffer_limits(**given)
    transport.write(b"x" * (1 << 21))
    await next_turns(3)
    assert transport.get_write_buffer_size() > 0
    assert protocol.events == ["made"]
    transport.abort()
    await protocol.lost
    peer.close()


@every_kind
@pytest.mark.parametrize(
    "given",
    [
        {"high": -1},
        {"low": -1},
        {"low": -5},
        {"high": -0.5},
        {"low": -0.5},
        {"high": -(10**30)},
        {"high": 1, "low": 2},
        {"high": 1.0, "low": 1.5},
        {"high": 1 << 63, "low": 1 << 64},
        {"high": float("nan")},
        {"low": float("nan"), "high": 5},
    ],
    ids=repr,
)
async def test_refused_numbers(loop: Loop, kind: Any, given: dict[str, Any]) -> None:
    async with kind(loop) as transport:
        before = whole(transport)
        with pytest.raises(ValueError, match=r"high \(.*\) must be >= low \(.*\) must be >= 0"):
            transport.set_write_buffer_limits(**given)
        assert whole(transport) == before


@every_kind
async def test_no_numbers(loop: Loop, kind: Any) -> None:
    async with kind(loop) as transport:
        before = whole(transport)
        for wrong in ("4000", b"1", [], object()):
            with pytest.raises(TypeError):
                transport.set_write_buffer_limits(high=wrong)
            assert whole(transport) == before
