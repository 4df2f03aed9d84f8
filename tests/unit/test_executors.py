"""Executors: results, errors, cancellation, the default executor and its shutdown."""

import asyncio
import concurrent.futures
import contextvars
import threading
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


async def test_results_and_errors(loop: Loop) -> None:
    assert await loop.run_in_executor(None, pow, 2, 10) == 1024
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, lambda: 1 // 0)
    names = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert names.startswith("asyncio")


async def test_an_own_executor(loop: Loop) -> None:
    with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        names = await asyncio.gather(
            *(loop.run_in_executor(pool, lambda: threading.current_thread().name) for _ in range(4))
        )
    assert all(name.startswith("mine") for name in names)


async def test_the_call_returns_a_future_of_the_loop(loop: Loop) -> None:
    release = threading.Event()
    future = loop.run_in_executor(None, release.wait)
    assert asyncio.isfuture(future)
    assert future.get_loop() is loop
    assert not future.done()
    release.set()
    assert await future is True


async def test_a_queued_call_can_be_cancelled(loop: Loop) -> None:
    release = threading.Event()
    ran: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = loop.run_in_executor(pool, release.wait)
        queued = loop.run_in_executor(pool, ran.append, "queued")
        queued.cancel()
        await next_turns(2)
        release.set()
        await running
    assert ran == []


async def test_to_thread_takes_the_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    assert await asyncio.to_thread(variable.get) == "mine"
    assert await loop.run_in_executor(None, variable.get) == "none"


async def test_set_default_executor(loop: Loop) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="default")
    loop.set_default_executor(pool)
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("default")
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(object())  # type: ignore[arg-type]


async def test_only_callables(loop: Loop) -> None:
    loop.set_debug(True)
    with pytest.raises(TypeError):
        loop.run_in_executor(None, 1)  # type: ignore[arg-type]


def test_shutdown_waits_and_then_refuses(loop: Loop) -> None:
    ended: list[str] = []
    started = threading.Event()
    release = threading.Event()

    def work() -> None:
        started.set()
        release.wait()
        ended.append("work")

    async def main() -> None:
        future = loop.run_in_executor(None, work)
        while not started.is_set():
            await asyncio.sleep(0)
        loop.call_later(0.01, release.set)
        await loop.shutdown_default_executor()
        ended.append("shutdown")
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, work)
        await future

    loop.run_until_complete(main())
    assert ended == ["work", "shutdown"]


def test_shutdown_without_an_executor(loop: Loop) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())


def test_the_loop_runs_on_while_the_executor_shuts_down(loop: Loop) -> None:
    release = threading.Event()
    ticks: list[Any] = []

    async def tick() -> None:
        for _ in range(5):
            await asyncio.sleep(0.001)
            ticks.append(None)
        release.set()

    async def main() -> None:
        future = loop.run_in_executor(None, release.wait)
        ticker = loop.create_task(tick())
        await loop.shutdown_default_executor()
        assert ticker.done() or len(ticks) == 5
        await ticker
        assert await future

    loop.run_until_complete(main())


def test_close_does_not_wait_for_running_calls(loop: Loop) -> None:
    release = threading.Event()
    started = threading.Event()

    async def main() -> None:
        future = loop.run_in_executor(None, lambda: (started.set(), release.wait()))
        while not started.is_set():
            await asyncio.sleep(0)
        future.cancel()
        await next_turns(2)

    loop.run_until_complete(main())
    loop.close()
    assert not release.is_set()
    release.set()
