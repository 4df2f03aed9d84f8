"""Lock, Event, Condition, Semaphore and Barrier: order, cancellation, attributes, subclasses.

Every test runs with asyncio's classes, which say what is right, and with oxloop's, on both loops.
"""

from __future__ import annotations

import asyncio
import collections
import fractions
import gc
import math
import sys
import types
import weakref
from typing import Any

import pytest
from oxloop import _oxloop
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=["asyncio", "oxloop"])
def ns(request: pytest.FixtureRequest) -> types.ModuleType:
    """The namespace whose classes are tested."""
    return asyncio if request.param == "asyncio" else _oxloop


async def test_a_lock_goes_to_tasks_in_order(loop: Loop, ns: Any) -> None:
    lock = ns.Lock()
    trace: list[int] = []

    async def use(number: int) -> None:
        async with lock:
            trace.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(use(number) for number in range(10)))
    assert trace == list(range(10))
    assert not lock.locked()


async def test_acquire_returns_true_and_entering_none(loop: Loop, ns: Any) -> None:
    for thing in (ns.Lock(), ns.Condition(), ns.Semaphore(), ns.BoundedSemaphore()):
        assert await thing.acquire() is True
        assert thing.locked()
        thing.release()
        async with thing as entered:
            assert entered is None
        assert not thing.locked()


async def test_a_free_lock_is_taken_without_suspending(loop: Loop, ns: Any) -> None:
    lock = ns.Lock()
    coroutine = lock.acquire()
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value is True


async def test_a_newcomer_does_not_overtake_who_was_woken(loop: Loop, ns: Any) -> None:
    lock = ns.Lock()
    await lock.acquire()
    trace: list[str] = []

    async def use(name: str) -> None:
        await lock.acquire()
        trace.append(name)
        lock.release()

    first = loop.create_task(use("waiter"))
    await next_turns(1)
    lock.release()
    assert not lock.locked()
    await use("newcomer")
    await first
    assert trace == ["waiter", "newcomer"]


async def test_a_cancelled_waiter_passes_its_turn_on(loop: Loop, ns: Any) -> None:
    lock = ns.Lock()
    await lock.acquire()
    first = loop.create_task(lock.acquire())
    second = loop.create_task(lock.acquire())
    await next_turns(1)
    lock.release()
    first.cancel()
    await next_turns(2)
    assert first.cancelled()
    assert await second is True
    assert lock.locked()


async def test_all_cancelled_waiters_may_be_overtaken(loop: Loop, ns: Any) -> None:
    lock = ns.Lock()
    await lock.acquire()
    waiting = loop.create_task(lock.acquire())
    await next_turns(1)
    waiting.cancel()
    lock.release()
    assert await lock.acquire() is True
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_release_of_a_free_lock(loop: Loop, ns: Any) -> None:
    with pytest.raises(RuntimeError, match="Lock is not acquired"):
        ns.Lock().release()
    with pytest.raises(ValueError, match="released too many times"):
        ns.BoundedSemaphore(2).release()


async def test_event_wakes_everybody_in_order(loop: Loop, ns: Any) -> None:
    event = ns.Event()
    trace: list[int] = []

    async def wait(number: int) -> None:
        assert await event.wait() is True
        trace.append(number)

    tasks = [loop.create_task(wait(number)) for number in range(5)]
    await next_turns(1)
    event.set()
    event.clear()
    assert "waiters:5" in repr(event)
    await asyncio.gather(*tasks)
    assert trace == list(range(5))
    assert not event.is_set()
    assert not event._waiters


async def test_semaphore_counts(loop: Loop, ns: Any) -> None:
    semaphore = ns.Semaphore(3)
    inside = most = 0

    async def use() -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(use() for _ in range(20)))
    assert most == 3
    assert semaphore._value == 3


@pytest.mark.parametrize("value", [math.inf, fractions.Fraction(2), 2**70, True])
async def test_semaphore_of_odd_numbers(loop: Loop, ns: Any, value: Any) -> None:
    semaphore = ns.Semaphore(value)
    await semaphore.acquire()
    assert semaphore._value == value - 1
    semaphore.release()
    assert semaphore._value == value


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("Semaphore", (-1,), ValueError),
        ("Semaphore", ("1",), TypeError),
        ("Semaphore", (None,), TypeError),
        ("BoundedSemaphore", (-1,), ValueError),
        ("Barrier", (0,), ValueError),
        ("Barrier", (), TypeError),
        ("Lock", (1,), TypeError),
        ("Condition", (1,), AttributeError),
    ],
)
async def test_bad_arguments(
    loop: Loop, ns: Any, name: str, arguments: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(ns, name)(*arguments)


async def test_a_semaphore_gives_a_permit_back_that_a_cancelled_waiter_got(
    loop: Loop, ns: Any
) -> None:
    semaphore = ns.Semaphore(1)
    await semaphore.acquire()
    first = loop.create_task(semaphore.acquire())
    second = loop.create_task(semaphore.acquire())
    await next_turns(1)
    semaphore.release()
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert second.result() is True
    assert semaphore._value == 0


async def test_condition_keeps_its_lock_through_cancellations(loop: Loop, ns: Any) -> None:
    condition = ns.Condition()
    seen: list[bool] = []

    async def wait() -> None:
        async with condition:
            try:
                await condition.wait()
            finally:
                seen.append(condition.locked())

    task = loop.create_task(wait())
    await next_turns(1)
    await condition.acquire()
    task.cancel("first")
    await next_turns(2)
    task.cancel("second")
    await next_turns(2)
    assert not task.done()
    condition.release()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    if ns is _oxloop or sys.version_info >= (3, 13):
        assert caught.value.args == ("second",)
    assert seen == [True]
    assert not condition.locked()


async def test_condition_passes_a_notification_on(loop: Loop, ns: Any) -> None:
    if ns is asyncio and sys.version_info < (3, 13):
        pytest.skip("asyncio loses it before 3.13")
    condition = ns.Condition()
    woken: list[int] = []

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            woken.append(number)

    tasks = [loop.create_task(wait(number)) for number in range(2)]
    await next_turns(1)
    async with condition:
        condition.notify()
        tasks[0].cancel()
    await asyncio.wait(tasks)
    assert woken == [1]


async def test_condition_notifies_as_many_as_asked(loop: Loop, ns: Any) -> None:
    condition = ns.Condition()
    woken: list[int] = []

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            woken.append(number)

    tasks = [loop.create_task(wait(number)) for number in range(6)]
    await next_turns(1)
    for count, expected in ((0, 0), (-1, 0), (1, 1), (2.5, 4), (2**80, 6)):
        async with condition:
            condition.notify(count)
        await next_turns(20)
        assert len(woken) == expected
    assert woken == list(range(6))
    await asyncio.gather(*tasks)
    for refused in (condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
            refused()
    with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
        await condition.wait()


async def test_condition_waits_for_a_predicate(loop: Loop, ns: Any) -> None:
    condition = ns.Condition()
    value = 0

    async def wait() -> Any:
        async with condition:
            return await condition.wait_for(lambda: value > 1 and [value])

    task = loop.create_task(wait())
    for _ in range(2):
        await next_turns(2)
        async with condition:
            value += 1
            condition.notify_all()
    assert await task == [2]


async def test_condition_over_a_lock_of_somebody_else(loop: Loop, ns: Any) -> None:
    calls: list[str] = []

    class Watched(asyncio.Lock):
        async def acquire(self) -> Any:
            calls.append("acquire")
            return await super().acquire()

        def release(self) -> None:
            calls.append("release")
            super().release()

    condition = ns.Condition(Watched())

    async def wait() -> None:
        async with condition:
            await condition.wait()

    task = loop.create_task(wait())
    await next_turns(1)
    async with condition:
        condition.notify()
    await task
    expected = ["acquire", "release"] * 3
    assert calls == expected


async def test_barrier_opens_for_all_at_once(loop: Loop, ns: Any) -> None:
    barrier = ns.Barrier(3)
    rounds: list[list[int]] = []
    for _ in range(2):
        rounds.append(await asyncio.gather(*(barrier.wait() for _ in range(3))))
    assert [sorted(numbers) for numbers in rounds] == [[0, 1, 2]] * 2
    assert barrier.n_waiting == 0 and not barrier.broken


async def test_barrier_is_broken_by_abort_and_reset(loop: Loop, ns: Any) -> None:
    barrier = ns.Barrier(2)
    for breaking in (barrier.reset, barrier.abort):
        waiting = loop.create_task(barrier.wait())
        await next_turns(1)
        assert barrier.n_waiting == 1
        await breaking()
        with pytest.raises(asyncio.BrokenBarrierError):
            await waiting
    assert barrier.broken
    with pytest.raises(asyncio.BrokenBarrierError):
        await barrier.wait()
    await barrier.reset()
    assert await asyncio.gather(barrier.wait(), barrier.wait()) == [0, 1]


async def test_a_cancelled_party_leaves_the_barrier(loop: Loop, ns: Any) -> None:
    barrier = ns.Barrier(2)

    async def enter() -> int:
        async with barrier as number:
            return int(number)

    gone = loop.create_task(enter())
    await next_turns(1)
    gone.cancel()
    await asyncio.wait([gone])
    assert barrier.n_waiting == 0
    assert sorted(await asyncio.gather(enter(), enter())) == [0, 1]


def test_a_lock_belongs_to_the_loop_in_which_somebody_waited(loop_factory: Any, ns: Any) -> None:
    lock = ns.Lock()

    async def contend() -> None:
        await asyncio.gather(*(use() for _ in range(3)))

    async def use() -> None:
        async with lock:
            await asyncio.sleep(0)

    for attempt in range(2):
        loop = loop_factory()
        try:
            if attempt == 0:
                loop.run_until_complete(contend())
                assert lock._loop is loop
            else:
                loop.run_until_complete(use())
                with pytest.raises(RuntimeError, match="is bound to a different event loop"):
                    loop.run_until_complete(contend())
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


async def test_reprs(loop: Loop, ns: Any) -> None:
    lock, event, semaphore = ns.Lock(), ns.Event(), ns.Semaphore(2)
    condition, barrier = ns.Condition(), ns.Barrier(3)
    assert repr(lock).endswith(" [unlocked]>")
    assert repr(event).endswith(" [unset]>")
    assert repr(semaphore).endswith(" [unlocked, value:2]>")
    assert repr(condition).endswith(" [unlocked]>")
    assert repr(barrier).endswith(" [filling, waiters:0/3]>")
    await lock.acquire()
    event.set()
    tasks = [loop.create_task(thing) for thing in (lock.acquire(), barrier.wait())]
    await next_turns(1)
    assert repr(lock).endswith(" [locked, waiters:1]>")
    assert repr(event).endswith(" [set]>")
    assert repr(barrier).endswith(" [filling, waiters:1/3]>")
    assert f" object at {id(lock):#x} [" in repr(lock)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await barrier.abort()
    assert repr(barrier).endswith(" [broken]>")


async def test_private_attributes_are_the_state_itself(loop: Loop, ns: Any) -> None:
    lock = ns.Lock()
    assert lock._waiters is None and lock._locked is False and lock._loop is None
    await lock.acquire()
    task = loop.create_task(lock.acquire())
    await next_turns(1)
    assert isinstance(lock._waiters, collections.deque) and len(lock._waiters) == 1
    assert lock._loop is loop
    lock._waiters[0].set_result(True)
    await task
    assert not lock._waiters
    event = ns.Event()
    mine = loop.create_future()
    event._waiters.append(mine)
    event.set()
    assert mine.result() is True
    assert event._value is True
    semaphore = ns.BoundedSemaphore(2)
    assert (semaphore._value, semaphore._bound_value, semaphore._waiters) == (2, 2, None)


async def test_subclasses_that_replace_acquire_and_release(loop: Loop, ns: Any) -> None:
    for name in ("Lock", "Semaphore", "BoundedSemaphore"):
        calls: list[str] = []
        base: Any = getattr(ns, name)

        class Watched(base):
            def __init__(self, calls: list[str]) -> None:
                super().__init__()
                self.calls = calls

            async def acquire(self) -> Any:
                self.calls.append("acquire")
                return await super().acquire()

            def release(self) -> None:
                self.calls.append("release")
                super().release()

        thing = Watched(calls)
        async with thing:
            assert thing.locked()
        assert calls == ["acquire", "release"]
        assert not thing.locked()


async def test_they_take_attributes_weak_references_and_the_collector(loop: Loop, ns: Any) -> None:
    for make in (ns.Lock, ns.Event, ns.Condition, ns.Semaphore, lambda: ns.Barrier(1)):
        thing = make()
        thing.me = thing
        gone = weakref.ref(thing)
        del thing
        gc.collect()
        assert gone() is None


async def test_oxloops_answer_asyncios_classes(loop: Loop) -> None:
    for name in ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore"):
        thing = getattr(_oxloop, name)()
        assert isinstance(thing, getattr(asyncio, name))
        assert isinstance(thing, getattr(_oxloop, name))
        assert type(thing).__name__ == name
        assert type(thing).__module__ == "oxloop"


async def test_a_waiter_dies_with_its_closed_coroutine(loop: Loop, ns: Any) -> None:
    lock = ns.Lock()
    await lock.acquire()
    coroutine = lock.acquire()
    coroutine.send(None)
    assert len(lock._waiters) == 1
    coroutine.close()
    assert not lock._waiters
    lock.release()
    assert await lock.acquire() is True
