"""Workloads for `storm.py` that `import oxloop as asyncio`: oxloop's own classes are interrupted.

`TaskGroup`, `gather`, `wait`, `Queue`, `Lock`, streams and the rest are then native; nothing is
excused here because asyncio's own code was hit between two bytecodes. Coroutines that end only by
being interrupted, as those of `storm.py`.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import oxloop as asyncio

LINES = 100


async def _short() -> int:
    await asyncio.sleep(0)
    return 1


async def groups() -> None:
    """Task groups within a task group, some of whose members fail."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def turn() -> None:
        while True:
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as outer:
        outer.create_task(turn())
        while True:
            async with asyncio.TaskGroup() as inner:
                members = [inner.create_task(_short()) for _ in range(5)]
            assert sum(member.result() for member in members) == 5
            with contextlib.suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(fail())
                    inner.create_task(turn())


async def together() -> None:
    """`gather`, `wait`, `as_completed` and `shield`."""
    while True:
        await asyncio.gather(*[_short() for _ in range(5)])
        await asyncio.wait([asyncio.ensure_future(_short()) for _ in range(5)])
        for each in asyncio.as_completed([_short() for _ in range(3)]):
            await each
        await asyncio.shield(_short())
        asyncio.ensure_future(_short()).cancel()


async def timeouts() -> None:
    """Timeouts that end and that are left in time, and `wait_for`."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.0005):
                await asyncio.sleep(0.0003)
                await asyncio.sleep(1000)
        async with asyncio.timeout(1000) as far:
            far.reschedule(loop.time() + 2000)
            await asyncio.wait_for(_short(), 1000)


async def queues() -> None:
    """Tasks that hand each other work by queues, under a lock."""
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    lock = asyncio.Lock()
    event = asyncio.Event()

    async def produce() -> None:
        number = 0
        while True:
            async with lock:
                number += 1
                await queue.put(number)
            event.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(produce())
        while True:
            await queue.get()
            queue.task_done()
            await event.wait()
            event.clear()


async def semaphores() -> None:
    """Semaphores and a barrier. No `Condition`: its waiters cannot be cancelled where a task that
    was interrupted has taken its lock with it."""
    semaphore = asyncio.BoundedSemaphore(2)
    barrier = asyncio.Barrier(3)

    async def meet() -> None:
        while True:
            async with semaphore:
                await asyncio.sleep(0)
            await barrier.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(meet())
        while True:
            await barrier.wait()
            async with semaphore:
                await asyncio.sleep(0)


async def lines() -> None:
    """Streams over TCP: a server that echoes lines, and clients one after the other.

    Many lines a client: a KeyboardInterrupt that meets the destructor of a connection's protocol,
    which is Python code, is swallowed by Python.
    """

    async def serve(reader: Any, writer: Any) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        while True:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                for _ in range(LINES):
                    writer.write(b"x" * 100 + b"\n")
                    await writer.drain()
                    assert len(await reader.readline()) == 101
            finally:
                writer.close()
    finally:
        server.close()


WORKLOADS: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (groups, together, timeouts, queues, semaphores, lines)
}
