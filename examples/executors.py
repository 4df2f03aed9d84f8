"""Blocking functions in threads, so that the loop stays free."""

import asyncio
import concurrent.futures
import contextvars
import threading

request = contextvars.ContextVar("request", default="none")


def blocking(number: int) -> int:
    if number == 3:
        raise ValueError("three is not allowed")
    return number * number


def where() -> str:
    on_main = threading.current_thread() is threading.main_thread()
    return f"main thread: {on_main}, request: {request.get()}"


async def main() -> None:
    loop = asyncio.get_running_loop()
    request.set("r1")

    print("default executor:", await loop.run_in_executor(None, blocking, 2))
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        jobs = [loop.run_in_executor(pool, blocking, number) for number in range(5)]
        print("own pool:", await asyncio.gather(*jobs, return_exceptions=True))

    print("to_thread takes the context along:", await asyncio.to_thread(where))
    print("an executor does not:", await loop.run_in_executor(None, where))


if __name__ == "__main__":
    asyncio.run(main())
