"""Other threads: waking the loop, and work handed out and back.

The other thread's work and the switch are a part of the operation, hence wall time is what
compares loops here; the thread CPU time shows only the loop's own share.
"""

from __future__ import annotations

import asyncio
import queue
import threading

from micro.scenario import scenario


@scenario(clock="wall")
async def threadsafe_round_trip(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A future passed to a thread that resolves it by call_soon_threadsafe."""
    requests: queue.SimpleQueue[asyncio.Future[None] | None] = queue.SimpleQueue()

    def resolve() -> None:
        while (future := requests.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)

    thread = threading.Thread(target=resolve)
    thread.start()
    try:
        for _ in range(count):
            future: asyncio.Future[None] = loop.create_future()
            requests.put(future)
            await future
    finally:
        requests.put(None)
        thread.join()


def _noop() -> None:
    pass


@scenario(clock="wall")
async def run_in_executor(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """An empty function run in the default executor and awaited."""
    for _ in range(count):
        await loop.run_in_executor(None, _noop)
