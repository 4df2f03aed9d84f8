"""A blocking sleep against one that gives the others their turn.

While `time.sleep` blocks the thread, nothing else on the loop runs: the ticker stands still.
While `asyncio.sleep` waits, the ticker ticks.
"""

import asyncio
import time


async def tick(ticks: list[None]) -> None:
    while True:
        await asyncio.sleep(0.01)
        ticks.append(None)


async def blocking() -> None:
    time.sleep(0.1)  # wrong in a coroutine: stops the whole loop


async def non_blocking() -> None:
    await asyncio.sleep(0.1)


async def main() -> None:
    ticks: list[None] = []
    ticker = asyncio.create_task(tick(ticks))
    await asyncio.sleep(0)  # the ticker starts

    await blocking()
    print("ticks during the blocking sleep:", len(ticks))

    await non_blocking()
    print("ticked during the non-blocking sleep:", len(ticks) > 1)

    started = time.monotonic()
    await asyncio.gather(*(non_blocking() for _ in range(10)))
    print("ten non-blocking sleeps take less than their sum:", time.monotonic() - started < 1)
    ticker.cancel()


if __name__ == "__main__":
    asyncio.run(main())
