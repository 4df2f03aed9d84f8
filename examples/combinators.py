"""The ways to run coroutines and to get at their results, side by side."""

import asyncio


async def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return await asyncio.sleep(number * 0.03, result=2 * number)


async def by_create_task() -> None:
    """Both tasks run at once; the results are awaited in any order."""
    one, two = asyncio.create_task(double(1)), asyncio.create_task(double(2))
    print("create_task:", await two, await one)


async def by_gather() -> None:
    """Results come in the order of the arguments, whatever finishes first."""
    print("gather:", await asyncio.gather(double(3), double(1), double(2)))
    try:
        await asyncio.gather(double(1), double(-1))
    except ValueError as error:
        print("gather raises the first error:", error)
    results = await asyncio.gather(double(1), double(-1), double(2), return_exceptions=True)
    print("gather(return_exceptions=True):", results)


async def by_as_completed() -> None:
    """Results come in the order in which they are ready."""
    waiting = [double(3), double(1), double(2)]
    print("as_completed:", [await first for first in asyncio.as_completed(waiting)])


async def by_wait() -> None:
    """Sets of tasks: what is done and what is pending."""
    tasks = [asyncio.create_task(double(number)) for number in (1, 5)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    print("wait:", [task.result() for task in done], f"and {len(pending)} pending")
    for task in pending:
        task.cancel()
        await asyncio.wait([task])
        print("cancelled:", task.cancelled())


async def by_timeout() -> None:
    """A limit in time cancels what takes longer."""
    try:
        await asyncio.wait_for(double(100), timeout=0.01)
    except TimeoutError:
        print("wait_for: timed out")


async def by_group() -> None:
    """A group waits for all its tasks; an error of one cancels the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(double(number)) for number in (1, 2)]
    print("TaskGroup:", [task.result() for task in tasks])
    try:
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(double(100))
            group.create_task(double(-2))
    except* ValueError as errors:
        print("TaskGroup raises:", errors.exceptions, "the other is cancelled:", slow.cancelled())


async def main() -> str:
    print("sleep(result=):", await asyncio.sleep(0.01, result="rested"))
    await by_create_task()
    await by_gather()
    await by_as_completed()
    await by_wait()
    await by_timeout()
    await by_group()
    return "done"


if __name__ == "__main__":
    print("run:", asyncio.run(main()))
