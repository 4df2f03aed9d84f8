"""Threads: last references that go on other threads, calls from many, loops closed meanwhile.

Each scenario runs in a process of its own, so that a crash costs one test. The switch interval is
the shortest there is: threads change places between almost any two bytecodes.
"""

import asyncio
import contextlib
import gc
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from loops import Factory

THREADS = 4


@contextlib.contextmanager
def quick_switches() -> Any:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(count: int, work: Callable[[int], object]) -> list[threading.Thread]:
    """Start `work(number)` in `count` threads."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def last_references_go_elsewhere(loop_factory: Factory) -> None:
    """Futures, tasks, handles and transports are freed on other threads while the loop runs."""
    bin_: queue.SimpleQueue[Any] = queue.SimpleQueue()
    freed: list[int] = []

    class Marked:
        def __del__(self) -> None:
            freed.append(1)

    def drop(_: int) -> None:
        while (item := bin_.get()) is not None:
            del item

    async def work() -> int:
        await asyncio.sleep(0)
        return 1

    async def main() -> int:
        loop = asyncio.get_running_loop()
        made = 0
        for turn in range(1500):
            future = loop.create_future()
            future.add_done_callback(lambda _, mark=Marked(): None)
            if turn % 2:
                future.set_result(Marked())
            task = loop.create_task(work())
            handle = loop.call_soon(lambda _: None, Marked())
            timer = loop.call_later(1000, lambda _: None, Marked())
            timer.cancel()
            made += 3 + turn % 2
            for item in (future, task, handle, timer):
                bin_.put(item)
            del future, task, handle, timer, item
            if turn % 50 == 0:
                ours, peer = socket.socketpair()
                ours.setblocking(False)
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
                transport.close()
                bin_.put(transport)
                del transport
                peer.close()
            await asyncio.sleep(0)
        return made

    loop = loop_factory()
    loop.set_exception_handler(lambda *_: None)
    threads = in_threads(THREADS, drop)
    with quick_switches():
        made = loop.run_until_complete(main())
    for _ in threads:
        bin_.put(None)
    for thread in threads:
        thread.join()
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert len(freed) == made, (len(freed), made)
    loop.close()


def loops_go_elsewhere(loop_factory: Factory) -> None:
    """A loop that ran here is closed and freed there, with everything that it holds."""
    for _ in range(60):
        loop = loop_factory()
        loop.set_exception_handler(lambda *_: None)
        loop.run_until_complete(asyncio.sleep(0))
        pending = loop.create_task(asyncio.sleep(1000))
        loop.call_soon(print)
        loop.call_later(1000, print)
        box = [loop, pending]
        del pending

        def end(box: list[Any] = box) -> None:
            box[0].close()
            box.clear()
            gc.collect()

        del loop
        thread = threading.Thread(target=end)
        thread.start()
        thread.join()


def calls_from_many_threads(loop_factory: Factory) -> None:
    """A storm of `call_soon_threadsafe` and `run_coroutine_threadsafe`: none is lost."""
    calls, coroutines = 4000, 300
    loop = loop_factory()
    seen: list[tuple[int, int]] = []
    results: list[int] = []
    done = 0

    def over() -> None:
        nonlocal done
        done += 1
        if done == THREADS:
            loop.stop()

    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number

    def storm(thread: int) -> None:
        for number in range(calls):
            loop.call_soon_threadsafe(seen.append, (thread, number))
            if number % 10 == 0:
                loop.call_soon_threadsafe(print, "cancelled").cancel()
        for number in range(coroutines):
            results.append(asyncio.run_coroutine_threadsafe(answer(number), loop).result(30))
        loop.call_soon_threadsafe(over)

    with quick_switches():
        threads = in_threads(THREADS, storm)
        loop.run_forever()
        for thread in threads:
            thread.join()
    for thread in range(THREADS):
        assert [number for by, number in seen if by == thread] == list(range(calls))
    assert sorted(results) == sorted(list(range(coroutines)) * THREADS)
    loop.close()


def many_loops_in_many_threads(loop_factory: Factory) -> None:
    """Each thread runs loop after loop; they talk to each other's by calls."""
    current: list[Any] = [None] * THREADS
    errors: list[BaseException] = []

    async def main(own: int) -> int:
        loop = asyncio.get_running_loop()
        current[own] = loop
        for other in current:
            if other is not None:
                with contextlib.suppress(RuntimeError):  # closed meanwhile
                    other.call_soon_threadsafe(str)
        first, second = socket.socketpair()
        for end in (first, second):
            end.setblocking(False)
        await loop.sock_sendall(first, b"x")
        assert await loop.sock_recv(second, 10) == b"x"
        first.close()
        second.close()
        return sum(await asyncio.gather(*[asyncio.sleep(0, number) for number in range(10)]))

    def work(own: int) -> None:
        try:
            for _ in range(60):
                with asyncio.Runner(loop_factory=loop_factory) as runner:
                    assert runner.run(main(own)) == 45
        except BaseException as error:
            errors.append(error)

    with quick_switches():
        for thread in in_threads(THREADS, work):
            thread.join()
    assert errors == []


def closed_while_called(loop_factory: Factory) -> None:
    """A loop is closed while others call in: their calls run or are refused, nothing else."""
    for _ in range(40):
        loop = loop_factory()
        ran: list[int] = []
        accepted = [0] * THREADS
        refused: list[str] = []
        started = threading.Barrier(THREADS + 1)

        def call(own: int) -> None:
            started.wait()
            while True:
                try:
                    loop.call_soon_threadsafe(ran.append, own)
                except RuntimeError as error:
                    refused.append(str(error))
                    return
                accepted[own] += 1

        with quick_switches():
            threads = in_threads(THREADS, call)
            started.wait()
            loop.run_until_complete(asyncio.sleep(0.001))
            before_close = len(ran)
            loop.close()
            for thread in threads:
                thread.join()
        assert set(refused) == {"Event loop is closed"} and len(refused) == THREADS, refused
        assert before_close == len(ran) <= sum(accepted)


SCENARIOS = [
    last_references_go_elsewhere,
    loops_go_elsewhere,
    calls_from_many_threads,
    many_loops_in_many_threads,
    closed_while_called,
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_threads(in_child: Any, scenario: Any) -> None:
    in_child(scenario)
