"""Many signals of several kinds at once: each handler runs, after the last one too; no other."""

import asyncio
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop

SENT = [
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGHUP,
    signal.SIGWINCH,
    signal.SIGTERM,
    signal.SIGRTMIN + 1,
    signal.SIGRTMAX,
]
NEVER_SENT = [signal.SIGQUIT, signal.SIGCONT, signal.SIGRTMIN]


@pytest.fixture
def calls(loop: Loop) -> Iterator[Counter[int]]:
    """How often the handler of each signal has run."""
    calls: Counter[int] = Counter()

    def count(number: int) -> None:
        calls[number] += 1

    for number in (*SENT, *NEVER_SENT):
        loop.add_signal_handler(number, count, number)
    yield calls
    for number in (*SENT, *NEVER_SENT):
        assert loop.remove_signal_handler(number)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


async def all_called(calls: Counter[int], more_than: Counter[int], numbers: set[int]) -> None:
    """Wait until each of `numbers` was called once more than `more_than` says."""
    while any(calls[number] <= more_than[number] for number in numbers):
        await asyncio.sleep(0.001)


async def test_rounds_of_signals(loop: Loop, calls: Counter[int]) -> None:
    """At most 250 in a round, since asyncio's loop can take no more at once."""
    dice = random.Random(4)
    sent: Counter[int] = Counter()
    for _ in range(50):
        before = calls.copy()
        chosen = [dice.choice(SENT) for _ in range(dice.choice([1, 10, 250]))]
        for number in chosen:
            send(number)
        sent.update(chosen)
        await all_called(calls, before, set(chosen))
    await next_turns(5)
    assert set(calls) == set(SENT)
    assert all(calls[number] <= sent[number] for number in SENT)


async def test_a_flood_of_one_kind_hides_no_other(
    loop: Loop, loop_name: str, calls: Counter[int]
) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio forgets what its socket pair has no room for, some 300 signals")
    for last in SENT[1:]:
        before = calls.copy()
        for _ in range(5000):
            send(SENT[0])
        send(last)
        await all_called(calls, before, {SENT[0], last})
    assert set(calls) == set(SENT)


async def test_signals_from_another_process(loop: Loop, calls: Counter[int]) -> None:
    """They come at any time, between any two instructions; whatever is sent last is seen."""
    numbers = [int(number) for number in SENT]
    program = (
        f"import os\nfor _ in range(30):\n for number in {numbers}: os.kill({os.getpid()}, number)"
    )
    for _ in range(5):
        before = calls.copy()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        assert await process.wait() == 0
        await all_called(calls, before, set(SENT))
    await next_turns(5)
    assert set(calls) == set(SENT)


async def test_signals_while_handlers_are_changed(loop: Loop, calls: Counter[int]) -> None:
    """What was taken off gets nothing more; what was put on instead gets everything from then."""
    seen: list[str] = []
    for turn in range(50):
        name = str(turn)
        loop.add_signal_handler(signal.SIGUSR1, seen.append, name)
        before = calls.copy()
        for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGHUP):
            send(number)
        await all_called(calls, before, {signal.SIGUSR2, signal.SIGHUP})
        while name not in seen:
            await asyncio.sleep(0.001)
    assert seen == [str(turn) for turn in range(50)]
    assert calls[signal.SIGUSR1] == 0


async def test_signals_and_threads_wake_the_loop_together(loop: Loop, calls: Counter[int]) -> None:
    """Both may go through what wakes the loop, and neither takes the other's place.

    200 calls, because asyncio's loop has no room for many more.
    """
    woken: list[int] = []

    def call_in() -> None:
        for number in range(200):
            loop.call_soon_threadsafe(woken.append, number)

    thread = threading.Thread(target=call_in)
    thread.start()
    for _ in range(100):
        before = calls.copy()
        send(signal.SIGUSR1)
        send(signal.SIGUSR2)
        await all_called(calls, before, {signal.SIGUSR1, signal.SIGUSR2})
    thread.join()
    await next_turns(2)
    assert woken == list(range(200))
