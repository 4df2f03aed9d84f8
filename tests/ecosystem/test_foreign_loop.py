"""A foreign loop's tasks and futures (asyncio.Task, asyncio.Future) aside and inside our loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .workflow_loop import WorkflowLoop

# Timers, activities and locks interleave in exactly this order, whatever carries the rounds out.
TRACE_EXPECTED = [
    (0.0, "begin"),
    (0.0, "ask 0"),
    (0.0, "ask 1"),
    (0.0, "ask 2"),
    (0.0, "answer [0, 10, 20]"),
    (1800.0, "slow timed out"),
    (1810.0, "a in"),
    (1815.0, "b in"),
    (1820.0, "group failed: ['broken']"),
    (5420.0, "end"),
]


async def workflow(trace: list[tuple[float, str]]) -> str:
    """A workflow that uses most of asyncio's tools, for one hour and a half of its own time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorkflowLoop)
    assert type(asyncio.current_task()) is asyncio.Task

    def note(text: str) -> None:
        trace.append((loop.time(), text))

    async def ask(n: int) -> int:
        note(f"ask {n}")
        return await loop.activity("tenfold", n)

    note("begin")
    note(f"answer {await asyncio.gather(*map(ask, range(3)))}")
    try:
        async with asyncio.timeout(1800):
            await asyncio.Event().wait()
    except TimeoutError:
        note("slow timed out")

    lock = asyncio.Lock()

    async def hold(name: str, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        async with lock:
            note(f"{name} in")
            await asyncio.sleep(5)

    await asyncio.gather(hold("b", 11), hold("a", 10))

    async def fail() -> None:
        raise ValueError("broken")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(10_000))
            group.create_task(fail())
    except ExceptionGroup as failed:
        note(f"group failed: {[str(error) for error in failed.exceptions]}")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.sleep(3600)
    note("end")
    return "completed"


def assert_completed(loop: WorkflowLoop, trace: list[tuple[float, str]]) -> None:
    assert trace == TRACE_EXPECTED
    assert loop.outcome.result() == "completed"
    assert loop.failures == []


Activate = Callable[..., Any]


async def carry_out(loop: WorkflowLoop, activate: Activate) -> None:
    """Run `loop` to its end: activities are tasks of the running loop, timers jump ahead.

    `activate` is a coroutine function with the arguments of WorkflowLoop.activate.
    """

    async def tenfold(n: int) -> int:
        await asyncio.sleep(0.001 * (3 - n))
        return 10 * n

    now_s = 0.0
    activation = await activate(now_s)
    while not loop.outcome.done():
        if activation.activities:
            tasks = {
                one.number: asyncio.create_task(tenfold(one.argument))
                for one in activation.activities
            }
            await asyncio.wait(tasks.values())
            results = {number: task.result() for number, task in tasks.items()}
            activation = await activate(now_s, results)
        else:
            assert activation.timer_at_s is not None
            now_s = activation.timer_at_s
            activation = await activate(now_s)


def test_rounds_in_worker_threads(run: Callable[..., Any]) -> None:
    """As workflow engines do it: our loop awaits rounds that run in a thread pool."""

    async def main() -> None:
        ours = asyncio.get_running_loop()
        with ThreadPoolExecutor(4) as pool:

            async def one() -> None:
                trace: list[tuple[float, str]] = []
                loop = WorkflowLoop(workflow(trace))

                async def activate(*arguments: Any) -> Any:
                    return await ours.run_in_executor(pool, loop.activate, *arguments)

                await carry_out(loop, activate)
                assert_completed(loop, trace)

            await asyncio.gather(*(one() for _ in range(20)))

    run(main())


def test_rounds_in_a_callback_of_our_loop(run: Callable[..., Any]) -> None:
    async def main() -> None:
        ours = asyncio.get_running_loop()
        trace: list[tuple[float, str]] = []
        loop = WorkflowLoop(workflow(trace))

        async def activate(*arguments: Any) -> Any:
            done = ours.create_future()

            def callback() -> None:
                done.set_result(loop.activate(*arguments))
                assert asyncio.get_running_loop() is ours

            ours.call_soon(callback)
            return await done

        await carry_out(loop, activate)
        assert_completed(loop, trace)

    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio 3.14 forbids a task in a task")
def test_rounds_inside_a_task_of_our_loop(run: Callable[..., Any]) -> None:
    """The foreign task runs in the middle of a step of ours, which is current again afterwards."""

    async def main() -> None:
        ours, task = asyncio.get_running_loop(), asyncio.current_task()
        trace: list[tuple[float, str]] = []
        loop = WorkflowLoop(workflow(trace))

        async def activate(*arguments: Any) -> Any:
            activation = loop.activate(*arguments)
            assert asyncio.get_running_loop() is ours
            assert asyncio.current_task() is task
            return activation

        await carry_out(loop, activate)
        assert_completed(loop, trace)

    run(main())


def test_tasks_belong_to_their_loops(run: Callable[..., Any]) -> None:
    async def main() -> None:
        ours, main_task = asyncio.get_running_loop(), asyncio.current_task()
        seen: dict[str, Any] = {}

        async def foreign() -> None:
            child = asyncio.create_task(asyncio.sleep(1))
            seen["all"] = asyncio.all_tasks()
            seen["own"] = {asyncio.current_task(), child}
            seen["ours"] = asyncio.all_tasks(ours)
            await child

        loop = WorkflowLoop(foreign())
        await asyncio.get_running_loop().run_in_executor(None, loop.activate, 0.0)
        assert seen["all"] == seen["own"]
        assert main_task in seen["ours"] and not seen["ours"] & seen["own"]
        assert asyncio.all_tasks(loop) == seen["own"]
        assert not asyncio.all_tasks() & seen["own"]
        for task in seen["own"]:
            assert asyncio.isfuture(task) and isinstance(task, asyncio.Task)
            assert task.get_loop() is loop
        await asyncio.get_running_loop().run_in_executor(None, loop.activate, 1.0)
        assert loop.outcome.done()
        assert asyncio.all_tasks(loop) == set()

    run(main())


def test_our_task_awaits_what_the_foreign_loop_sets(run: Callable[..., Any]) -> None:
    """A C future of our loop is resolved in a foreign step, in this thread and in another one."""

    async def main() -> None:
        ours = asyncio.get_running_loop()
        here: asyncio.Future[str] = asyncio.Future(loop=ours)
        there = ours.create_future()

        async def set_here() -> None:
            await asyncio.sleep(1)
            here.set_result("from this thread")

        async def set_there() -> None:
            await asyncio.sleep(1)
            thread = threading.current_thread()
            ours.call_soon_threadsafe(there.set_result, thread)

        first, second = WorkflowLoop(set_here()), WorkflowLoop(set_there())

        async def wait_for_both() -> tuple[str, threading.Thread]:
            return await here, await there

        waiting = asyncio.create_task(wait_for_both())
        for now_s in (0.0, 1.0):
            ours.call_soon(first.activate, now_s)
            await ours.run_in_executor(None, second.activate, now_s)
        text, thread = await waiting
        assert text == "from this thread"
        assert thread is not threading.current_thread()

    run(main())


def test_pending_future_of_another_loop_is_refused(run: Callable[..., Any]) -> None:
    """As in asyncio: a pending one raises RuntimeError in the task, a finished one is fine."""

    async def main() -> None:
        async def foreign() -> str:
            await asyncio.sleep(1)
            return "result"

        loop = WorkflowLoop(foreign())
        await asyncio.get_running_loop().run_in_executor(None, loop.activate, 0.0)

        async def await_it(awaitable: Any) -> Any:
            return await awaitable

        for awaitable in (loop.outcome, loop.create_future()):
            with pytest.raises(RuntimeError, match="attached to a different loop"):
                await asyncio.create_task(await_it(awaitable))
        await asyncio.get_running_loop().run_in_executor(None, loop.activate, 1.0)
        assert await asyncio.create_task(await_it(loop.outcome)) == "result"

    run(main())


def test_our_future_is_refused_by_the_foreign_loop(run: Callable[..., Any]) -> None:
    async def main() -> None:
        ours = asyncio.get_running_loop()
        future = ours.create_future()

        async def foreign() -> str:
            try:
                await future
            except RuntimeError as error:
                return str(error)
            return "not refused"

        loop = WorkflowLoop(foreign())
        await ours.run_in_executor(None, loop.activate, 0.0)
        assert "attached to a different loop" in loop.outcome.result()

    run(main())


def test_done_callbacks_cross_loops(run: Callable[..., Any]) -> None:
    """A foreign task's done callback runs on the foreign loop and may wake ours."""

    async def main() -> None:
        ours = asyncio.get_running_loop()
        done = ours.create_future()

        async def foreign() -> int:
            return 42

        loop = WorkflowLoop(foreign())
        loop.outcome.add_done_callback(lambda task: done.set_result(task.result()))
        ours.call_soon(loop.activate, 0.0)
        assert await done == 42

    run(main())
