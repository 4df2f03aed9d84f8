"""Reading from a stream what has been received."""

from __future__ import annotations

import asyncio
from itertools import repeat

from micro.scenario import scenario

LINE = b"x" * 99 + b"\n"
LINES_PER_READ = 1000


@scenario(batch=LINES_PER_READ)
async def readline(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A line of 100 bytes by `readline`, of 1,000 that came together."""
    reader = asyncio.StreamReader()
    received = bytearray(LINE * LINES_PER_READ)
    line = b""
    for _ in range(count // LINES_PER_READ):
        # A new object each time, as a transport makes one.
        reader.feed_data(bytes(received))
        # No more than the read itself, as `timeit` does it.
        for _ in repeat(None, LINES_PER_READ):
            line = await reader.readline()
        if line != LINE or reader._buffer:  # type: ignore[attr-defined]
            raise AssertionError("not the lines")


@scenario()
async def readexactly(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A message of 64 KiB by `readexactly`, that comes in 64 segments while the task waits."""
    reader = asyncio.StreamReader(2**20)
    segment = bytes(1024)

    async def feed() -> None:
        for _ in range(count):
            for _ in range(64):
                reader.feed_data(segment)
                await asyncio.sleep(0)

    feeding = loop.create_task(feed())
    for _ in range(count):
        if len(await reader.readexactly(64 * 1024)) != 64 * 1024:
            raise AssertionError("not the message")
    await feeding
