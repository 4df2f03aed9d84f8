"""Producers and consumers that share a bounded queue.

`put` waits while the queue is full, so that the producers cannot run ahead of the consumers;
`join` waits until every item has been worked on; then the consumers, which run for ever, are
cancelled.
"""

import asyncio


async def produce(name: str, queue: asyncio.Queue[str], count: int) -> None:
    for number in range(count):
        await queue.put(f"{name}{number}")
    print(f"producer {name} made {count} items")


async def consume(queue: asyncio.Queue[str], eaten: list[str]) -> None:
    while True:
        item = await queue.get()
        await asyncio.sleep(0)  # the work
        eaten.append(item)
        queue.task_done()


async def main() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=3)
    eaten: list[str] = []
    consumers = [asyncio.create_task(consume(queue, eaten)) for _ in range(2)]
    await asyncio.gather(*(produce(name, queue, 5) for name in "ab"))
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    ends = await asyncio.gather(*consumers, return_exceptions=True)
    print(f"eaten: {' '.join(eaten)}")
    print(f"consumers ended with: {[type(end).__name__ for end in ends]}")


if __name__ == "__main__":
    asyncio.run(main())
