"""Work given to a running event loop from another thread.

A loop belongs to one thread. Another thread may only call `call_soon_threadsafe` (fire and
forget) and `run_coroutine_threadsafe` (which returns a concurrent future: the other thread
can wait for the result, get the exception, or cancel).
"""

import asyncio
import concurrent.futures
import threading


async def add(one: int, two: int) -> int:
    await asyncio.sleep(0.01)
    return one + two


async def fail() -> None:
    raise ValueError("from the coroutine")


async def wait_for_ever(started: threading.Event) -> None:
    started.set()
    await asyncio.Event().wait()


def other_thread(loop: asyncio.AbstractEventLoop, notes: list[str]) -> None:
    for number in range(3):
        loop.call_soon_threadsafe(notes.append, f"note {number}")
    print("result:", asyncio.run_coroutine_threadsafe(add(1, 2), loop).result())

    try:
        asyncio.run_coroutine_threadsafe(fail(), loop).result()
    except ValueError as error:
        print("exception:", error)

    started = threading.Event()
    future = asyncio.run_coroutine_threadsafe(wait_for_ever(started), loop)
    started.wait()
    print("cancel:", future.cancel())
    try:
        future.result()
    except concurrent.futures.CancelledError:
        print("the coroutine was cancelled from the thread")


async def main() -> None:
    notes: list[str] = []
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()

    def work() -> None:
        other_thread(loop, notes)
        loop.call_soon_threadsafe(finished.set)

    thread = threading.Thread(target=work)
    thread.start()
    await finished.wait()
    thread.join()
    print("fired and forgotten:", notes)


if __name__ == "__main__":
    asyncio.run(main())
