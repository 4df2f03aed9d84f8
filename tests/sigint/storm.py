"""SIGINT at random moments: ``storm.py NAMES WORKLOAD MODE LOOP ROUNDS SEED``.

In each round a workload runs that would never end, and a process of its own sends one SIGINT
after a random number of microseconds. NAMES is ``asyncio`` (the workloads of this file, which use
asyncio's names) or ``oxloop`` (those of `native_workloads.py`, which import oxloop as asyncio).
MODE is ``runner`` (`asyncio.Runner`, where the signal
cancels the main task) or ``plain`` (`run_forever`, where it is a KeyboardInterrupt at once). Each
round must end in KeyboardInterrupt; then the loop must still work, be closed, and nothing be left:
descriptors, threads, tasks, the handler of SIGINT, the wakeup descriptor, the running loop.

Where a round has not ended by then, the sender tries again after `AGAIN_S`. Such rounds are
counted: ``swallowed`` where Python did it, as it does with every exception in a destructor or in
the callback of a weak reference, else ``lost``: what the signal hit never ended, or nobody saw it.
The last line of the output is a JSON object: rounds, signals sent, these two, and what is wrong.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

OFFSET_MAX_US = 3000
AGAIN_S = 2.0
SETTLED_S = 10.0
QUEUED = 3000

Loop = asyncio.AbstractEventLoop
Workload = Callable[[], Any]


class Sender:
    """The process that sends the signals; forked before anything else is there."""

    def __init__(self) -> None:
        self.orders = os.pipe()
        self.answers = os.pipe()
        parent = os.getpid()
        self.process = os.fork()
        if self.process == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(self.orders[1])
            self._serve(parent)
        os.close(self.orders[0])

    def _serve(self, parent: int) -> None:
        while order := os.read(self.orders[0], 8):
            time.sleep(int.from_bytes(order, "big") / 1e6)
            sent = 0
            while True:
                os.kill(parent, signal.SIGINT)
                sent += 1
                if select.select([self.orders[0]], [], [], AGAIN_S)[0]:
                    break
            os.read(self.orders[0], 8)
            os.write(self.answers[1], sent.to_bytes(8, "big"))
        os._exit(0)

    def arm(self, offset_us: int) -> None:
        """Send a signal in `offset_us`."""
        os.write(self.orders[1], offset_us.to_bytes(8, "big"))

    def disarm(self) -> int:
        """The signal has come; returns how many were sent. None comes afterwards."""
        while True:
            try:
                os.write(self.orders[1], bytes(8))
                return int.from_bytes(os.read(self.answers[0], 8), "big")
            except KeyboardInterrupt:
                # One that was sent again just now.
                continue

    def end(self) -> None:
        os.close(self.orders[1])
        os.waitpid(self.process, 0)


# The workloads: coroutines that end only by being interrupted.


async def steps() -> None:
    """Many tasks that step all the time, and tasks made and cancelled meanwhile."""

    async def turn() -> None:
        while True:
            await asyncio.sleep(0)

    async def short() -> int:
        await asyncio.sleep(0)
        return 1

    tasks = [asyncio.ensure_future(turn()) for _ in range(5)]
    try:
        while True:
            # No `gather`: an interrupt within its callback, which is asyncio's, and its future
            # never ends. oxloop's own is in `native_workloads.py`.
            for task in [asyncio.ensure_future(short()) for _ in range(5)]:
                await task
            asyncio.ensure_future(short()).cancel()
    finally:
        for task in tasks:
            task.cancel()


async def timers() -> None:
    """A loop that mostly sleeps, with timers made, cancelled and due."""
    loop = asyncio.get_running_loop()
    while True:
        far = [loop.call_later(1000, print) for _ in range(10)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.0005):
                await asyncio.sleep(0.0003)
                await asyncio.sleep(1000)
        for timer in far:
            timer.cancel()


async def streams() -> None:
    """An echo over TCP: a server, a client, and bytes that go round."""

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    try:
        while True:
            address = server.sockets[0].getsockname()
            transport, _ = await loop.create_connection(Echo, *address)
            transport.write(b"x" * 100)
            await asyncio.sleep(0.001)
            transport.close()
    finally:
        server.close()


async def sockets() -> None:
    """`sock_recv` and `sock_sendall`, readers and writers."""
    loop = asyncio.get_running_loop()
    with uninterrupted():
        ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)

    async def answer() -> None:
        while data := await loop.sock_recv(ends[1], 1000):
            await loop.sock_sendall(ends[1], data)

    answering = asyncio.ensure_future(answer())
    try:
        while True:
            await loop.sock_sendall(ends[0], b"x" * 500)
            got = 0
            while got < 500:
                got += len(await loop.sock_recv(ends[0], 1000))
            ready = loop.create_future()
            loop.add_writer(ends[0], lambda ready=ready: ready.done() or ready.set_result(1))
            try:
                await ready
            finally:
                loop.remove_writer(ends[0])
    finally:
        answering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answering
        for end in ends:
            end.close()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """No signal in here: what Python itself leaves half done when it is interrupted.

    `socket.socketpair()` loses a descriptor between its halves; a thread that is interrupted while
    it waits for another to start may leave a lock taken that the other one needs.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


async def threads() -> None:
    """Calls from another thread.

    No executor and no `threading.Event`: an interrupt within their locks, or the collector ending
    this coroutine on the other thread, may leave one taken for ever.
    """
    loop = asyncio.get_running_loop()
    calls = 0
    is_stopping = False

    def count() -> None:
        nonlocal calls
        calls += 1

    def call() -> None:
        with contextlib.suppress(RuntimeError):
            while not is_stopping:
                time.sleep(0.0001)
                loop.call_soon_threadsafe(count)

    thread = threading.Thread(target=call, daemon=True)
    try:
        with uninterrupted():
            thread.start()
        while True:
            await asyncio.sleep(0.0002)
    finally:
        is_stopping = True
        with contextlib.suppress(RuntimeError):
            thread.join()


async def waiting() -> None:
    """Tasks that hand each other work by locks, queues and events."""
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
            # No timeout: one that ends with the interrupt may swallow the cancellation.
            await event.wait()
            event.clear()


WORKLOADS: dict[str, Workload] = {
    function.__name__: function for function in (steps, timers, streams, sockets, threads, waiting)
}


# One round


def run_runner(workload: Workload, factory: Callable[[], Loop], arm: Callable[[], None]) -> None:
    """A round under `asyncio.Runner`."""
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda *_: None)
        arm()
        try:
            runner.run(workload())
        except asyncio.CancelledError:
            # `run` sets its handler and then its count of interrupts to 0: one in between is
            # forgotten, and the cancellation comes out as it is.
            if runner._interrupt_count:  # type: ignore[attr-defined]
                raise
            raise KeyboardInterrupt from None


def run_plain(workload: Workload, factory: Callable[[], Loop], arm: Callable[[], None]) -> None:
    """A round under `run_forever`: what is queued stays queued, in order, and the loop works on."""
    loop = factory()
    loop.set_exception_handler(lambda *_: None)
    seen: list[int] = []
    expected = list(range(QUEUED))
    for number in expected:
        loop.call_soon(seen.append, number)
    task = loop.create_task(workload())
    try:
        try:
            arm()
            loop.run_forever()
        finally:
            # asyncio may lose a callback that was taken from the queue and not yet called.
            is_ours = type(loop).__module__.startswith("oxloop")
            _finish(loop)
            if is_ours and seen != expected:
                raise AssertionError(f"{len(seen)} of {QUEUED} callbacks ran")
            if not task.done():
                raise AssertionError("the task was not ended")
    finally:
        loop.close()


def _finish(loop: Loop) -> None:
    """End what is left; the loop still works."""
    if loop.run_until_complete(asyncio.sleep(0, 7)) != 7:
        raise AssertionError("the loop does not work any more")
    while pending := asyncio.all_tasks(loop):
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.wait(pending))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


def state() -> dict[str, Any]:
    """What must be the same after each round."""
    wakeup = signal.set_wakeup_fd(-1)
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "SIGINT's handler": signal.getsignal(signal.SIGINT),
        "wakeup descriptor": wakeup,
        "running loop": asyncio._get_running_loop(),
    }


def open_files() -> str:
    """What the descriptors of this process are."""
    files = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            files.append(f"{number}: {os.readlink('/proc/self/fd/' + number)}")
    return ", ".join(files)


def settled(before: dict[str, Any]) -> dict[str, Any]:
    """The state once idle threads have ended and the collector has been round."""
    deadline = time.monotonic() + SETTLED_S
    while (after := state()) != before and time.monotonic() < deadline:
        # What the interrupt hit half-made is closed by the collector.
        gc.collect()
        time.sleep(0.001)
    return after


def play(
    workload: Workload,
    mode: str,
    factory: Callable[[], Loop],
    rounds: int,
    seed: int,
    is_native: bool,
) -> dict[str, Any]:
    """Play `rounds` rounds; returns the counts and what is wrong."""
    lot = random.Random(seed)
    sender = play.sender  # type: ignore[attr-defined]
    run = {"runner": run_runner, "plain": run_plain}[mode]
    before = state()
    run_until_it_ends(run, factory)
    settled(before)
    before = state()
    result: dict[str, Any] = {"rounds": 0, "sent": 0, "lost": 0, "swallowed": 0, "wrong": []}
    swallowed: list[type[BaseException]] = []
    sys.unraisablehook = lambda report: swallowed.append(report.exc_type)
    for number in range(rounds):
        offset_us = lot.randrange(OFFSET_MAX_US)
        how = "ended by itself"
        try:
            run(workload, factory, lambda us=offset_us: sender.arm(us))
        except KeyboardInterrupt:
            how = ""
        except BaseExceptionGroup as group:
            # The handler cancels the main task between two bytecodes of asyncio's own classes,
            # which may have asked `future.done()` just before: theirs to lose, never ours.
            is_theirs = not is_native and group.subgroup(asyncio.InvalidStateError)
            how = "" if is_theirs else f"ended in {group!r}"
        except BaseException as error:
            how = f"ended in {error!r}"
        sent = sender.disarm()
        result["rounds"] += 1
        result["sent"] += sent
        if sent > 1:
            result["swallowed" if KeyboardInterrupt in swallowed else "lost"] += 1
        swallowed.clear()
        after = settled(before)
        for key in before:
            if after[key] != before[key]:
                how += f" {key}: {before[key]} became {after[key]}"
        if after["descriptors"] != before["descriptors"]:
            how += f" ({open_files()})"
        # What is left is told once; the rounds that follow do not wait for it.
        before = after
        if how:
            result["wrong"].append(f"round {number} at {offset_us} us: {how}")
    return result


def run_until_it_ends(run: Any, factory: Callable[[], Loop]) -> None:
    """A first round without a signal, so that what is imported once is there."""

    async def stop() -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, str)
        loop.stop()

    with contextlib.suppress(RuntimeError):
        run(stop, factory, lambda: None)


if __name__ == "__main__":
    play.sender = Sender()  # type: ignore[attr-defined]
    # Imported behind the fork.
    import loops

    logging.disable()
    _, names, workload, mode, loop_name, rounds, seed = sys.argv
    is_native = names != "asyncio"
    if is_native:
        from native_workloads import WORKLOADS
    outcome = play(
        WORKLOADS[workload], mode, loops.factory(loop_name), int(rounds), int(seed), is_native
    )
    play.sender.end()  # type: ignore[attr-defined]
    print(json.dumps(outcome))
