"""Cancels at random moments: no permit, turn, notification or item is ever lost.

Each program is random and repeatable: its seed is the parameter of the test.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from oxloop import _oxloop

Loop = asyncio.AbstractEventLoop
SEEDS = range(15)


async def storm(loop: Loop, chance: random.Random, work: Any, count: int) -> None:
    """Run `count` tasks of `work`, cancel random ones at random turns, wait for all."""
    tasks = [loop.create_task(work()) for _ in range(count)]
    pending = set(tasks)
    while pending:
        for task in chance.sample(sorted(pending, key=tasks.index), min(len(pending), 2)):
            if chance.random() < 0.5:
                task.cancel()
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        pending = {task for task in pending if not task.done()}
    for task in tasks:
        assert task.cancelled() or task.exception() is None


@pytest.mark.parametrize("seed", SEEDS)
async def test_semaphores_keep_their_permits(loop: Loop, seed: int) -> None:
    chance = random.Random(seed)
    permits = chance.randrange(1, 4)
    semaphore = _oxloop.BoundedSemaphore(permits)
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with semaphore:
            inside += 1
            assert inside <= permits
            try:
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
            finally:
                inside -= 1

    await storm(loop, chance, work, 60)
    assert semaphore._value == permits
    assert not semaphore.locked() and not semaphore._waiters


@pytest.mark.parametrize("seed", SEEDS)
async def test_locks_are_free_at_the_end(loop: Loop, seed: int) -> None:
    chance = random.Random(seed)
    lock = _oxloop.Lock()
    condition = _oxloop.Condition(lock)
    holders = 0

    async def work() -> None:
        nonlocal holders
        async with condition if chance.random() < 0.5 else lock:
            holders += 1
            assert holders == 1
            holders -= 1
            if chance.random() < 0.5:
                condition.notify()
                return
            try:
                async with asyncio.timeout(0.002):
                    await condition.wait()
            except TimeoutError:
                pass
            assert lock.locked()

    await storm(loop, chance, work, 60)
    assert not lock.locked()
    assert not lock._waiters and not condition._waiters


@pytest.mark.parametrize("seed", SEEDS)
async def test_queues_keep_their_items(loop: Loop, seed: int) -> None:
    chance = random.Random(seed)
    queue = _oxloop.Queue(chance.randrange(1, 4))
    put: list[int] = []
    got: list[int] = []
    numbers = iter(range(1000))

    async def work() -> None:
        if chance.random() < 0.5:
            number = next(numbers)
            await queue.put(number)
            put.append(number)
        else:
            async with asyncio.timeout(0.01):
                got.append(await queue.get())

    async def quiet() -> None:
        try:
            await work()
        except TimeoutError:
            pass

    await storm(loop, chance, quiet, 80)
    while not queue.empty():
        got.append(queue.get_nowait())
    assert sorted(got) == sorted(put)
    assert len(got) == queue._unfinished_tasks
    assert not queue._getters and not queue._putters


@pytest.mark.parametrize("seed", SEEDS)
async def test_barriers_never_stick(loop: Loop, seed: int) -> None:
    chance = random.Random(seed)
    barrier = _oxloop.Barrier(3)

    async def work() -> None:
        try:
            async with asyncio.timeout(0.005):
                assert 0 <= await barrier.wait() < 3
        except (TimeoutError, asyncio.BrokenBarrierError):
            pass
        if chance.random() < 0.05:
            await barrier.reset()

    await storm(loop, chance, work, 60)
    assert barrier._count == 0
    assert await asyncio.gather(*(barrier.wait() for _ in range(3))) == [0, 1, 2]


async def test_a_cancel_from_a_done_callback_of_the_waiter(loop: Loop) -> None:
    lock = _oxloop.Lock()
    await lock.acquire()
    first, second = (loop.create_task(lock.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    cancels: list[bool] = []
    lock._waiters[0].add_done_callback(lambda _: cancels.append(first.cancel()))
    lock.release()
    # The waiter's task was told first, so it has the lock when the callback runs.
    assert await first is True
    assert cancels in ([], [False])
    assert lock.locked() and not second.done()
    lock.release()
    assert await second is True
