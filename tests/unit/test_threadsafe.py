"""`call_soon_threadsafe`: order, wake-ups, none lost, from many threads and signal handlers."""

import asyncio
import threading
import time
from typing import Any

import loops
import pytest
from loops import Factory
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


async def test_an_idle_loop_wakes_up(loop: Loop) -> None:
    woken = asyncio.Event()
    idle = threading.Event()

    def other() -> None:
        idle.wait()
        time.sleep(0.02)  # the loop may fall asleep; the outcome does not depend on it
        loop.call_soon_threadsafe(woken.set)

    thread = threading.Thread(target=other)
    thread.start()
    loop.call_soon(idle.set)
    await woken.wait()
    thread.join()


async def test_each_thread_keeps_its_order_and_nothing_is_lost(loop: Loop) -> None:
    threads, count = 4, 5000
    received: list[tuple[int, int]] = []
    complete = asyncio.Event()

    def receive(thread: int, number: int) -> None:
        received.append((thread, number))
        if len(received) == threads * count:
            complete.set()

    def send(thread: int) -> None:
        for number in range(count):
            loop.call_soon_threadsafe(receive, thread, number)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for sender in senders:
        sender.start()
    await complete.wait()
    for sender in senders:
        sender.join()
    for thread in range(threads):
        assert [n for t, n in received if t == thread] == list(range(count))


def storm(loop_factory: Factory) -> None:
    """Threads that queue callbacks without end, from before the loop runs until it is closed."""
    loop = loop_factory()
    ran = 0
    sent: list[int] = []

    def count() -> None:
        nonlocal ran
        ran += 1

    def send() -> None:
        number = 0
        try:
            while True:
                loop.call_soon_threadsafe(count)
                number += 1
        except RuntimeError:
            sent.append(number)

    async def turn() -> None:
        await asyncio.sleep(0.01)
        for _ in range(10):
            await asyncio.sleep(0)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        loop.run_until_complete(turn())
    loop.close()
    for thread in threads:
        thread.join()
    # What had been queued when the loop was closed is dropped.
    assert 0 < ran <= sum(sent)
    print("the loop had its turns")


@pytest.mark.parametrize("loop_name", [name for name in loops.names() if name == "oxloop"])
def test_a_storm_from_threads_does_not_starve_the_loop(in_child: Any) -> None:
    """In a process of its own, since what is not run in time fills the memory. asyncio may take
    many seconds."""
    assert in_child(storm).stdout == "the loop had its turns\n"


class Slow:
    """Lets other threads run while the interpreter clears its modules."""

    def __del__(self, sleep: Any = time.sleep) -> None:
        sleep(0.02)


KEPT: list[object] = []


def leave_a_storm(loop_factory: Factory) -> None:
    """The interpreter exits while daemon threads pause within `call_soon_threadsafe`."""
    loop = loop_factory()
    calls = [0] * 4

    def send(number: int) -> None:
        while True:
            loop.call_soon_threadsafe(int)
            calls[number] += 1

    for number in range(len(calls)):
        threading.Thread(target=send, args=(number,), daemon=True).start()
    while min(calls) < 1000:
        time.sleep(0.001)
    KEPT.extend((loop, Slow()))


@pytest.mark.parametrize("loop_name", [name for name in loops.names() if name == "oxloop"])
def test_a_storm_does_not_disturb_the_exit(in_child: Any) -> None:
    assert in_child(leave_a_storm).stderr == ""


async def test_single_wake_ups_between_sleeps_are_not_lost(loop: Loop) -> None:
    """A ping-pong of single wake-ups: one that is lost would hang it."""
    rounds = 2000
    go = threading.Semaphore(0)
    finished = asyncio.Event()

    def other() -> None:
        for number in range(rounds):
            go.acquire()
            loop.call_soon_threadsafe(answer, number)

    def answer(number: int) -> None:
        if number == rounds - 1:
            finished.set()
        else:
            go.release()

    thread = threading.Thread(target=other)
    thread.start()
    go.release()
    await finished.wait()
    thread.join()


async def test_from_the_own_thread_it_joins_the_queue(loop: Loop) -> None:
    calls: list[str] = []
    loop.call_soon(calls.append, "one")
    loop.call_soon_threadsafe(calls.append, "two")
    loop.call_soon(calls.append, "three")
    await next_turns(2)
    assert sorted(calls) == ["one", "three", "two"]
    assert calls.index("one") < calls.index("three")


async def test_a_handle_cancelled_in_time_does_not_run(loop: Loop) -> None:
    calls: list[str] = []
    handle = loop.call_soon_threadsafe(calls.append, "cancelled")
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()
    loop.call_soon_threadsafe(calls.append, "kept")
    await next_turns(2)
    assert calls == ["kept"]


async def test_a_handle_is_cancelled_from_the_other_thread(loop: Loop) -> None:
    calls: list[str] = []

    def other() -> None:
        handles.append(loop.call_soon_threadsafe(calls.append, "cancelled"))
        handles[0].cancel()

    handles: list[asyncio.Handle] = []
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()  # the loop stands still meanwhile
    await next_turns(2)
    assert calls == []


def test_before_the_loop_runs(loop: Loop) -> None:
    calls: list[int] = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(calls.append, 1))
    thread.start()
    thread.join()
    loop.run_until_complete(asyncio.sleep(0))
    assert calls == [1]


def test_after_close(loop: Loop) -> None:
    loop.close()
    raised: list[BaseException] = []

    def other() -> None:
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert str(raised[0]) == "Event loop is closed"


def test_stop_from_another_thread(loop: Loop) -> None:
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


async def test_run_coroutine_threadsafe(loop: Loop) -> None:
    async def value(number: int) -> int:
        assert asyncio.get_running_loop() is loop
        return number

    async def fail() -> None:
        raise KeyError("k")

    def other() -> tuple[int, BaseException | None]:
        first = asyncio.run_coroutine_threadsafe(value(3), loop).result(20)
        return first, asyncio.run_coroutine_threadsafe(fail(), loop).exception(20)

    result, error = await asyncio.to_thread(other)
    assert result == 3
    assert isinstance(error, KeyError)


async def test_run_coroutine_threadsafe_timeout_cancels(loop: Loop) -> None:
    import concurrent.futures

    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def other() -> None:
        future = asyncio.run_coroutine_threadsafe(wait(), loop)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.01)
        future.cancel()

    await asyncio.to_thread(other)
    await cancelled.wait()


def test_from_a_signal_handler(loop: Loop) -> None:
    import os
    import signal

    calls: list[Any] = []
    before = signal.signal(
        signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(lambda: (calls.append(1), loop.stop()))
    )
    try:
        # From a thread, so that the loop is likely to be in its wait.
        sender = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        loop.run_forever()
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == [1]
