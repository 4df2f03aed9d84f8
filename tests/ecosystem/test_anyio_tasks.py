"""AnyIO's tasks, cancel scopes and threads, by `anyio.run` with our loop factory.

Facts. AnyIO looks below asyncio's public face: it finds the root task by the done callback that
`run_until_complete` adds, and ends its worker threads when that task is done; it reads a task's
`_fut_waiter` and `_must_cancel` to know whether it is blocked and to deliver cancellation again
and again for as long as a scope is cancelled.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .loops import LoopKind

anyio = pytest.importorskip("anyio")
from_thread = pytest.importorskip("anyio.from_thread")
to_thread = pytest.importorskip("anyio.to_thread")

WORKER_NAME = "AnyIO worker thread"


def test_task_group_collects_results_and_errors(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        done: list[int] = []

        async def work(n: int) -> None:
            await anyio.sleep(0)
            done.append(n)

        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(work, n)
        assert done == list(range(100))

        async def fail(error: Exception) -> None:
            await anyio.sleep(0)
            raise error

        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(fail, ValueError("a"))
                group.start_soon(fail, KeyError("b"))
                await anyio.sleep_forever()
        assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}

    run_anyio(main)


def test_start_waits_for_started(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        async def service(*, task_status: Any) -> None:
            await anyio.sleep(0)
            task_status.started("ready")
            await anyio.sleep_forever()

        async def stillborn(*, task_status: Any) -> None:
            raise OSError("cannot start")

        async with anyio.create_task_group() as group:
            assert await group.start(service) == "ready"
            with pytest.raises(OSError, match="cannot start"):
                await group.start(stillborn)
            group.cancel_scope.cancel()

    run_anyio(main)


def test_scopes_with_deadlines(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.02) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.02):
            await anyio.sleep_forever()
        with anyio.fail_after(10) as scope:
            await anyio.sleep(0)
        assert not scope.cancelled_caught

        with anyio.move_on_after(0.02) as outer, anyio.move_on_after(10) as inner:
            await anyio.sleep_forever()
        assert (outer.cancelled_caught, inner.cancelled_caught) == (True, False)
        await anyio.sleep(0)
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0

    run_anyio(main)


def test_cancellation_is_delivered_again_and_again(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        cancelled = anyio.get_cancelled_exc_class()
        deliveries = 0
        with anyio.CancelScope() as scope:
            scope.cancel()
            for _ in range(5):
                try:
                    await anyio.sleep_forever()
                except cancelled:
                    deliveries += 1
            await anyio.sleep_forever()
        assert deliveries == 5

    run_anyio(main)


def test_shielded_scope_finishes_its_work(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        steps = []
        with anyio.CancelScope() as outer:
            outer.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
                steps.append("shielded")
            await anyio.sleep(0)
            steps.append("never")
        assert steps == ["shielded"]
        assert outer.cancelled_caught

    run_anyio(main)


def test_cancel_from_another_task(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        outcomes = []

        async def victim(event: Any) -> None:
            try:
                await event.wait()
            except anyio.get_cancelled_exc_class():
                outcomes.append("cancelled")
                raise

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(victim, anyio.Event())
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
        assert outcomes == ["cancelled"] * 50

    run_anyio(main)


def test_wait_all_tasks_blocked(run_anyio: Callable[..., Any]) -> None:
    """It must not return while a task still has steps to do, and must return when none has."""

    async def main() -> None:
        steps = []
        release = anyio.Event()

        async def work(n: int) -> None:
            for _ in range(n):
                await anyio.lowlevel.checkpoint()
            steps.append(n)
            await release.wait()

        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(work, n)
            await anyio.wait_all_tasks_blocked()
            assert sorted(steps) == list(range(20))
            assert len(anyio.get_running_tasks()) >= 21
            release.set()

    run_anyio(main)


def test_worker_threads_end_with_the_root_task(run_anyio: Callable[..., Any]) -> None:
    before = set(threading.enumerate())
    workers: set[threading.Thread] = set()

    async def main() -> None:
        barrier = threading.Barrier(8)

        def work() -> None:
            workers.add(threading.current_thread())
            barrier.wait(10)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(to_thread.run_sync, work)
        assert await to_thread.run_sync(lambda: sum(range(10))) == 45
        with pytest.raises(ZeroDivisionError):
            await to_thread.run_sync(lambda: 1 // 0)

    run_anyio(main)
    assert len(workers) == 8
    for worker in set(threading.enumerate()) - before:
        worker.join(10)
        assert not worker.is_alive(), f"{worker} outlives the root task"


def test_threads_call_back_into_the_loop(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        loop_thread = threading.current_thread()

        async def double(n: int) -> int:
            assert threading.current_thread() is loop_thread
            await anyio.sleep(0)
            return 2 * n

        def in_thread(n: int) -> int:
            assert threading.current_thread() is not loop_thread
            assert from_thread.run_sync(threading.current_thread) is loop_thread
            return from_thread.run(double, from_thread.run(double, n))

        results = {}

        async def work(n: int) -> None:
            results[n] = await to_thread.run_sync(in_thread, n)

        async with anyio.create_task_group() as group:
            for n in range(60):
                group.start_soon(work, n)
        assert results == {n: 4 * n for n in range(60)}

    run_anyio(main)


def test_cancelled_scope_abandons_a_thread(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        release = threading.Event()
        with anyio.move_on_after(0.02) as scope:
            await to_thread.run_sync(release.wait, abandon_on_cancel=True)
        assert scope.cancelled_caught
        release.set()

    run_anyio(main)


def test_blocking_portal(kind: LoopKind) -> None:
    """A loop in another thread, called from this one."""
    options = {"loop_factory": kind.factory}
    with from_thread.start_blocking_portal(backend_options=options) as portal:
        kind.check(portal.call(asyncio.get_running_loop))

        async def square(n: int) -> int:
            await anyio.sleep(0)
            return n * n

        futures = [portal.start_task_soon(square, n) for n in range(50)]
        assert [future.result(10) for future in futures] == [n * n for n in range(50)]
        endless = portal.start_task_soon(anyio.sleep_forever)
        assert endless.cancel()


def test_synchronisation_objects(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        lock, inside, most = anyio.Lock(), 0, 0
        limiter = anyio.CapacityLimiter(3)

        async def enter(guard: Any) -> None:
            nonlocal inside, most
            async with guard:
                inside += 1
                most = max(most, inside)
                await anyio.sleep(0)
                inside -= 1

        for guard, limit in ((lock, 1), (limiter, 3)):
            most = 0
            async with anyio.create_task_group() as group:
                for _ in range(30):
                    group.start_soon(enter, guard)
            assert most == limit

    run_anyio(main)


def test_memory_streams(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        send, receive = anyio.create_memory_object_stream[int](2)
        received: list[int] = []

        async def produce(first: int, stream: Any) -> None:
            async with stream:
                for n in range(first, 1000, 4):
                    await stream.send(n)

        async def consume(stream: Any) -> None:
            async with stream:
                async for n in stream:
                    received.append(n)

        async with anyio.create_task_group() as group:
            async with send, receive:
                for first in range(4):
                    group.start_soon(produce, first, send.clone())
                    group.start_soon(consume, receive.clone())
        assert sorted(received) == list(range(1000))
        with pytest.raises(anyio.ClosedResourceError):
            send.send_nowait(1)

    run_anyio(main)


def test_signals_are_received(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert await anext(signals) is signal.SIGUSR1
            os.kill(os.getpid(), signal.SIGUSR2)
            assert await anext(signals) is signal.SIGUSR2

    run_anyio(main)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
