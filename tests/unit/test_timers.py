"""Timers: never early, in order of deadlines, cancellable for nothing, on the loop's clock."""

import asyncio
import gc
import random
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from loops import Factory
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


def resident_kib() -> int:
    """The resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


async def test_timers_are_never_early(loop: Loop) -> None:
    early: list[float] = []
    delays = [random.Random(1).uniform(0, 0.03) for _ in range(200)]

    def check(when: float) -> None:
        if loop.time() < when - 1e-9:
            early.append(when - loop.time())

    for delay in delays:
        when = loop.time() + delay
        loop.call_at(when, check, when)
    await asyncio.sleep(0.04)
    assert early == []


async def test_sleep_is_never_early(loop: Loop) -> None:
    for delay in (0.0001, 0.0005, 0.001, 0.0015, 0.0101):
        started = time.monotonic()
        await asyncio.sleep(delay)
        assert time.monotonic() - started >= delay - 1e-9


async def test_order_of_deadlines(loop: Loop) -> None:
    calls: list[int] = []
    base = loop.time() + 0.005
    order = list(range(50))
    random.Random(2).shuffle(order)
    for number in order:
        loop.call_at(base + number * 1e-5, calls.append, number)
    await asyncio.sleep(0.02)
    assert calls == list(range(50))


async def test_negative_delays_run_by_deadline(loop: Loop) -> None:
    calls: list[float] = []
    for delay in (-1.0, -3.0, 0.0, -2.0):
        loop.call_later(delay, calls.append, delay)
    await asyncio.sleep(0.01)
    assert calls == [-3.0, -2.0, -1.0, 0.0]


async def test_ready_callbacks_run_before_due_timers(loop: Loop) -> None:
    calls: list[str] = []
    loop.call_at(loop.time() - 1, calls.append, "timer")
    loop.call_soon(calls.append, "ready")
    await next_turns(1)
    assert calls in (["ready"], ["ready", "timer"])
    await next_turns(1)
    assert calls == ["ready", "timer"]


async def test_handle(loop: Loop) -> None:
    before = loop.time()
    handle = loop.call_later(100, print)
    assert isinstance(handle, asyncio.TimerHandle)
    assert isinstance(handle, asyncio.Handle)
    assert before + 100 <= handle.when() <= loop.time() + 100
    at = loop.call_at(12345678.5, print)
    assert at.when() == 12345678.5
    whole = loop.call_at(12345678, print)
    assert whole.when() == 12345678 and type(whole.when()) is int
    assert "when=12345678 " in repr(whole)
    whole.cancel()
    assert not at.cancelled()
    at.cancel()
    handle.cancel()
    assert at.cancelled()


async def test_a_cancelled_timer_does_not_run(loop: Loop) -> None:
    calls: list[str] = []
    handles = [loop.call_later(0.001 * n, calls.append, "cancelled") for n in range(5)]
    loop.call_later(0.002, calls.append, "kept")
    for handle in handles:
        handle.cancel()
        handle.cancel()
    await asyncio.sleep(0.01)
    assert calls == ["kept"]


async def test_a_due_timer_is_cancelled_by_one_before_it(loop: Loop) -> None:
    calls: list[str] = []
    base = loop.time() - 1
    handles: list[asyncio.TimerHandle] = []
    loop.call_at(base, lambda: handles[0].cancel())
    handles.append(loop.call_at(base + 0.1, calls.append, "cancelled"))
    loop.call_at(base + 0.2, calls.append, "kept")
    await asyncio.sleep(0.01)
    assert calls == ["kept"]


@pytest.mark.parametrize("delay", [0, 0.0, -1, float("-inf")])
async def test_no_delay(loop: Loop, delay: float) -> None:
    called = asyncio.Event()
    loop.call_later(delay, called.set)
    await called.wait()


async def test_endless_delays_do_not_disturb(loop: Loop) -> None:
    calls: list[str] = []
    handles = [loop.call_later(delay, calls.append, "never") for delay in (1e9, 1e18)]
    handles.append(loop.call_at(float("inf"), calls.append, "never"))
    await asyncio.sleep(0.005)
    assert calls == []
    for handle in handles:
        handle.cancel()


async def test_none_is_refused(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.call_later(None, print)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        loop.call_at(None, print)  # type: ignore[arg-type]


def test_the_clock_is_monotonic_time(loop: Loop) -> None:
    before = time.monotonic()
    assert before <= loop.time() <= time.monotonic()


def test_a_time_set_on_the_instance_drives_the_timers(loop: Loop) -> None:
    now = 1000.0
    calls: list[tuple[str, float]] = []
    loop.time = lambda: now  # type: ignore[method-assign]

    async def main() -> None:
        nonlocal now
        loop.call_later(10, lambda: calls.append(("ten", now)))
        loop.call_at(1005, lambda: calls.append(("five", now)))
        sleeper = loop.create_task(asyncio.sleep(20, "slept"))
        await next_turns(3)
        assert calls == []
        for _ in range(30):
            now += 1
            await next_turns(2)
        assert sleeper.done()

    started = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - started < 5
    assert calls == [("five", 1005.0), ("ten", 1010.0)]


def test_a_time_of_a_subclass_drives_the_timers(loop_factory: Factory) -> None:
    base = type(loop_factory())

    class Virtual(base):  # type: ignore[misc, valid-type]
        now = 0.0

        def time(self) -> float:
            return self.now

    loop = Virtual()

    async def main() -> float:
        deadline = loop.create_task(asyncio.sleep(3600))
        while not deadline.done():
            loop.now += 600
            await next_turns(2)
        return loop.time()

    assert 3600 <= loop.run_until_complete(main()) <= 4800
    loop.close()


def cancelled_timers_leave_no_memory(loop_factory: Factory) -> None:
    loop = loop_factory()

    class Thing:
        pass

    async def burst(size: int) -> weakref.ref[Thing]:
        thing = Thing()
        handles = [loop.call_later(3600, print, thing, number) for number in range(size)]
        for handle in handles:
            handle.cancel()
        await next_turns(3)
        return weakref.ref(thing)

    first = loop.run_until_complete(burst(100_000))
    gc.collect()
    assert first() is None
    warm = resident_kib()
    for _ in range(5):
        loop.run_until_complete(burst(100_000))
    gc.collect()
    grown = resident_kib() - warm
    loop.close()
    assert grown < 16 * 1024, f"{grown} KiB stay after 500,000 cancelled timers"


def test_cancelled_timers_leave_no_memory(in_child: Any) -> None:
    in_child(cancelled_timers_leave_no_memory)


async def test_cancelled_timers_are_let_go_among_live_ones(loop: Loop) -> None:
    class Thing:
        pass

    kept = [loop.call_later(3600, print) for _ in range(10)]
    thing = Thing()
    alive = weakref.ref(thing)
    for _ in range(1000):
        loop.call_later(3600, print, thing).cancel()
    del thing
    await next_turns(3)
    gc.collect()
    assert alive() is None
    for handle in kept:
        handle.cancel()


async def test_a_thousand_sleepers(loop: Loop) -> None:
    delays = [random.Random(3).uniform(0, 0.02) for _ in range(1000)]
    assert await asyncio.gather(*(asyncio.sleep(d, d) for d in delays)) == delays
