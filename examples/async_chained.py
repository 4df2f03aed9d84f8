"""Coroutines that await coroutines: three chains run at the same time.

Within one chain the second part needs the result of the first and waits for it; the chains
themselves do not wait for each other. The shortest delay finishes first.
"""

import asyncio


async def part_1(number: int, delay_s: float) -> str:
    print(f"part 1({number}) sleeps")
    await asyncio.sleep(delay_s)
    return f"result {number}-1"


async def part_2(number: int, first: str, delay_s: float) -> str:
    print(f"part 2({number}, {first}) sleeps")
    await asyncio.sleep(delay_s)
    return f"result {number}-2 from {first}"


async def chain(number: int, delay_s: float) -> None:
    first = await part_1(number, delay_s)
    second = await part_2(number, first, delay_s)
    print(f"chained {number}: {second}")


async def main() -> None:
    await asyncio.gather(chain(9, 0.25), chain(6, 0.15), chain(3, 0.05))


if __name__ == "__main__":
    asyncio.run(main())
