"""Three coroutines that interleave on one thread.

Each `await` gives the others their turn: the program prints One three times before the first
Two, and waits once, not three times.
"""

import asyncio
import threading


async def count(name: str) -> None:
    print(f"{name}: One")
    await asyncio.sleep(0.05)
    print(f"{name}: Two")


async def main() -> None:
    await asyncio.gather(count("first"), count("second"), count("third"))
    print(f"threads: {threading.active_count()}")


if __name__ == "__main__":
    asyncio.run(main())
