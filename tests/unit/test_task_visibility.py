"""What others see of tasks: all_tasks, current_task, factories, C tasks, foreign loops."""

import asyncio
import gc
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


async def test_all_tasks_and_current_task(loop: Loop) -> None:
    me = asyncio.current_task()
    assert asyncio.current_task(loop) is me
    assert asyncio.all_tasks() == {me} or me in asyncio.all_tasks()
    before = asyncio.all_tasks()
    tasks = {loop.create_task(asyncio.sleep(0)) for _ in range(3)}
    assert asyncio.all_tasks() == before | tasks
    assert asyncio.all_tasks(loop) == before | tasks
    await asyncio.wait(tasks)
    assert asyncio.all_tasks() == before


async def test_current_task_is_right_in_every_step(loop: Loop) -> None:
    wrong: list[Any] = []

    async def steps(name: str) -> None:
        for _ in range(3):
            if asyncio.current_task().get_name() != name:  # type: ignore[union-attr]
                wrong.append(name)
            await asyncio.sleep(0)

    tasks = [loop.create_task(steps(f"t{number}"), name=f"t{number}") for number in range(4)]
    await asyncio.wait(tasks)
    assert wrong == []


async def test_there_is_no_current_task_in_a_callback(loop: Loop) -> None:
    seen: list[Any] = []
    loop.call_soon(lambda: seen.append(asyncio.current_task()))
    task = loop.create_task(asyncio.sleep(0))
    loop.call_soon(lambda: seen.append(asyncio.current_task()))
    task.add_done_callback(lambda _: seen.append(asyncio.current_task()))
    loop.call_later(0, lambda: seen.append(asyncio.current_task()))
    await asyncio.sleep(0.01)
    assert seen == [None] * 4


def test_no_task_is_current_outside(loop: Loop) -> None:
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.current_task(loop) is None
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.current_task()
    assert asyncio.all_tasks(loop) == set()


def test_a_pending_task_is_visible_while_the_loop_stands_still(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(0))
    assert asyncio.all_tasks(loop) == {task}
    loop.run_until_complete(task)


async def test_c_tasks_run_on_the_loop(loop: Loop) -> None:
    async def steps() -> str:
        me = asyncio.current_task()
        await asyncio.sleep(0)
        await loop.create_future_soon("x")  # type: ignore[attr-defined]
        assert asyncio.current_task() is me
        return "c"

    def soon(result: object) -> Any:
        future = loop.create_future()
        loop.call_soon(future.set_result, result)
        return future

    loop.create_future_soon = soon  # type: ignore[attr-defined]
    task = asyncio.Task(steps(), loop=loop)
    assert task in asyncio.all_tasks()
    assert await task == "c"
    python: Any = asyncio.tasks._PyTask(steps(), loop=loop)  # type: ignore[attr-defined]
    assert await python == "c"


async def test_c_tasks_and_the_loops_tasks_wait_for_each_other(loop: Loop) -> None:
    async def wait(other: Any, result: str) -> str:
        return f"{result}<{await other}"

    first = loop.create_task(asyncio.sleep(0.01, "sleep"))
    second = asyncio.Task(wait(first, "c"), loop=loop)
    third = loop.create_task(wait(second, "own"))
    fourth: Any = asyncio.tasks._PyTask(  # type: ignore[attr-defined]
        wait(third, "python"), loop=loop
    )
    assert await fourth == "python<own<c<sleep"


async def test_cancel_through_mixed_tasks(loop: Loop) -> None:
    async def wait(other: Any) -> None:
        await other

    inner = loop.create_task(asyncio.sleep(100))
    middle = asyncio.Task(wait(inner), loop=loop)
    outer = loop.create_task(wait(middle))
    await next_turns(4)
    outer.cancel("through")
    with pytest.raises(asyncio.CancelledError) as caught:
        await outer
    assert caught.value.args == ("through",)
    assert inner.cancelled() and middle.cancelled()


async def test_task_factory(loop: Loop) -> None:
    made: list[Any] = []

    def factory(loop: Loop, coro: Any, **kwargs: Any) -> Any:
        task = asyncio.Task(coro, loop=loop, **kwargs)
        made.append(task)
        return task

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(asyncio.sleep(0, 1), name="given")
    assert made == [task]
    assert task.get_name() == "given"
    assert await asyncio.create_task(asyncio.sleep(0, 2)) == 2
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    await loop.create_task(asyncio.sleep(0))
    assert len(made) == 2
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory(1)  # type: ignore[arg-type]
    await task


class ForeignLoop(asyncio.AbstractEventLoop):
    """A deterministic loop as workflow engines write them: a queue, no clock, no I/O."""

    def __init__(self) -> None:
        self.queue: list[asyncio.Handle] = []

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.queue.append(handle)
        return handle

    def create_task(self, coro: Any, **kwargs: Any) -> Any:
        return asyncio.Task(coro, loop=self, **kwargs)

    def create_future(self) -> Any:
        return asyncio.Future(loop=self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise AssertionError(context)

    def is_running(self) -> bool:
        return True

    def drive(self) -> None:
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while self.queue:
                self.queue.pop(0)._run()
        finally:
            asyncio._set_running_loop(outer)


def test_a_foreign_loop_makes_asyncio_tasks_beside_ours(loop: Loop) -> None:
    async def workflow(signal: Any) -> str:
        child = asyncio.create_task(asyncio.sleep(0, "child"))
        return f"{await child}, {await signal}"

    def activation() -> str:
        foreign = ForeignLoop()
        signal = foreign.create_future()
        task = asyncio.Task(workflow(signal), loop=foreign)
        foreign.drive()
        assert not task.done()
        signal.set_result("signal")
        foreign.drive()
        return task.result()

    async def in_a_thread() -> str:
        return await loop.run_in_executor(None, activation)

    assert activation() == "child, signal"
    assert loop.run_until_complete(in_a_thread()) == "child, signal"


async def test_futures_of_the_standard_library_belong_to_the_loop(loop: Loop) -> None:
    assert asyncio.Future().get_loop() is loop
    assert asyncio.ensure_future(asyncio.sleep(0)).get_loop() is loop
    assert asyncio.gather().get_loop() is loop
    await next_turns(2)


def test_a_destroyed_loop_leaves_no_task_behind(loop_factory: Any) -> None:
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    task = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(task)
    loop.close()
    del task
    gc.collect()
    assert asyncio.all_tasks(loop) == set()
