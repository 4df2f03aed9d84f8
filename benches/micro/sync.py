"""Locks, events and queues between tasks."""

from __future__ import annotations

import asyncio

from micro.scenario import scenario

CONTENDERS = 10
QUEUE_ITEMS_MAX = 10


@scenario()
async def queue(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """An item through a queue of 10 places, from a producer to a consumer."""
    items: asyncio.Queue[int] = asyncio.Queue(QUEUE_ITEMS_MAX)

    async def produce() -> None:
        for number in range(count):
            await items.put(number)

    producer = loop.create_task(produce())
    for number in range(count):
        if await items.get() != number:
            raise AssertionError("the queue is out of order")
    await producer


@scenario(batch=CONTENDERS)
async def lock_contended(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A lock acquired and released by one of 10 tasks that want it, held over a sleep(0)."""
    lock = asyncio.Lock()

    async def contend() -> None:
        for _ in range(count // CONTENDERS):
            async with lock:
                await asyncio.sleep(0)

    for task in [loop.create_task(contend()) for _ in range(CONTENDERS)]:
        await task


@scenario()
async def event(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """An event that one task waits for and clears, set by another one that waits for the next."""
    there, back = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        for _ in range(count):
            await there.wait()
            there.clear()
            back.set()

    answering = loop.create_task(answer())
    for _ in range(count):
        there.set()
        await back.wait()
        back.clear()
    await answering
