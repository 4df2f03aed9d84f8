"""Tasks: steps, what they may yield, names, contexts, stacks, private attributes, lifetime."""

import asyncio
import contextvars
import gc
import io
import sys
import types
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


async def value(result: object = 1) -> object:
    return result


class Yields:
    """An awaitable that yields the given things to the task, one by one."""

    def __init__(self, *things: object) -> None:
        self.things = things

    def __await__(self) -> Any:
        sent = []
        for thing in self.things:
            sent.append((yield thing))
        return sent


async def test_a_task_starts_in_the_next_iteration(loop: Loop) -> None:
    trace: list[str] = []

    async def note() -> str:
        trace.append("ran")
        return "result"

    task = loop.create_task(note())
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert asyncio.isfuture(task)
    assert trace == []
    assert await task == "result"
    assert (task.done(), task.result(), task.exception()) == (True, "result", None)


async def test_tasks_and_callbacks_are_one_queue(loop: Loop) -> None:
    trace: list[str] = []

    async def steps(name: str) -> None:
        for number in range(2):
            trace.append(f"{name}{number}")
            await asyncio.sleep(0)

    tasks = [loop.create_task(steps("a"))]
    loop.call_soon(trace.append, "callback")
    tasks.append(loop.create_task(steps("b")))
    await asyncio.wait(tasks)
    assert trace == ["a0", "callback", "b0", "a1", "b1"]


@pytest.mark.parametrize("error", [ValueError("v"), GeneratorExit(), BaseException("b")])
async def test_exceptions_stay_in_the_task(loop: Loop, error: BaseException) -> None:
    async def fail() -> None:
        raise error

    task = loop.create_task(fail())
    await asyncio.wait([task])
    assert task.exception() is error
    with pytest.raises(type(error)):
        task.result()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exits_go_out_of_the_loop_too(loop: Loop, kind: type[BaseException]) -> None:
    async def leave() -> None:
        raise kind(3)

    async def main() -> None:
        tasks.append(loop.create_task(leave()))
        await asyncio.sleep(10)

    tasks: list[asyncio.Task[None]] = []
    outer = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(outer)
    assert type(tasks[0].exception()) is kind
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(outer)


async def test_what_is_sent_into_the_coroutine(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result("value")
    future._asyncio_future_blocking = True
    assert await Yields(None, future) == [None, None]


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (5, "Task got bad yield: 5"),
        ("future", "yield was used instead of yield from in task"),
        ("generator", "yield was used instead of yield from for generator in task"),
        ("itself", "Task cannot await on itself"),
    ],
)
async def test_a_bad_yield_is_thrown_into_the_coroutine(loop: Loop, thing: Any, text: str) -> None:
    if thing == "future":
        thing = loop.create_future()
    elif thing == "generator":
        thing = (number for number in [])
    elif thing == "itself":
        thing = asyncio.current_task()
        thing._asyncio_future_blocking = True
    with pytest.raises(RuntimeError, match=text):
        await Yields(thing)
    if thing is asyncio.current_task():
        thing._asyncio_future_blocking = False


async def test_a_python_future_can_be_awaited(loop: Loop) -> None:
    for kind in (asyncio.futures._PyFuture, asyncio.Future):  # type: ignore[attr-defined]
        future = kind(loop=loop)
        loop.call_soon(future.set_result, kind)
        assert await future is kind


async def test_a_future_like_object_can_be_awaited(loop: Loop) -> None:
    class FutureLike:
        _asyncio_future_blocking = False

        def __init__(self) -> None:
            self.callbacks: list[Any] = []

        def get_loop(self) -> Loop:
            return loop

        def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
            self.callbacks.append((callback, context))

        def result(self) -> str:
            return "result"

        def __await__(self) -> Any:
            self._asyncio_future_blocking = True
            yield self
            return self.result()

    future = FutureLike()

    async def main() -> str:
        return await future

    task = loop.create_task(main())
    await next_turns(2)
    (callback, context) = future.callbacks.pop()
    loop.call_soon(callback, future, context=context)
    assert await task == "result"


def test_only_coroutines(loop: Loop) -> None:
    wrong: Any
    # Python 3.11 still took generators for coroutines.
    generators = [(n for n in [])] if sys.version_info >= (3, 12) else []
    for wrong in (1, print, *generators):
        with pytest.raises(TypeError, match="a coroutine was expected, got"):
            loop.create_task(wrong)
    gc.collect()


def test_generator_based_coroutines_of_types(loop: Loop) -> None:
    @types.coroutine
    def old() -> Any:
        yield
        return 4

    async def main() -> int:
        return await old()

    assert loop.run_until_complete(main()) == 4


async def test_names(loop: Loop) -> None:
    first, second = loop.create_task(value()), loop.create_task(value())
    numbers = [int(task.get_name().removeprefix("Task-")) for task in (first, second)]
    assert numbers[1] > numbers[0]
    named = loop.create_task(value(), name="mine")
    assert named.get_name() == "mine"
    named.set_name(3)
    assert named.get_name() == "3"
    assert "name='3'" in repr(named)
    await asyncio.wait([first, second, named])


async def test_every_step_runs_in_the_tasks_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    async def steps() -> None:
        seen.append(variable.get())
        variable.set("inner")
        await asyncio.sleep(0)
        seen.append(variable.get())

    variable.set("outer")
    task = loop.create_task(steps())
    variable.set("changed after creation")
    await task
    assert seen == ["outer", "inner"]
    assert variable.get() == "changed after creation"

    shared = contextvars.copy_context()
    await loop.create_task(steps(), context=shared)
    assert shared[variable] == "inner"


async def test_get_context(loop: Loop) -> None:
    if sys.version_info < (3, 12):
        assert not hasattr(asyncio.Task, "get_context")
        return
    context = contextvars.copy_context()
    task = loop.create_task(value(), context=context)
    assert task.get_context() is context
    await task


async def test_stack_and_coroutine(loop: Loop) -> None:
    release = loop.create_future()

    async def inner() -> None:
        await release

    async def outer() -> None:
        await inner()

    coroutine = outer()
    task = loop.create_task(coroutine)
    await next_turns(1)
    assert task.get_coro() is coroutine
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["outer"]
    printed = io.StringIO()
    task.print_stack(file=printed)
    assert "in outer" in printed.getvalue()
    release.set_result(None)
    await task
    assert task.get_stack() == []


async def test_stack_of_a_failed_task(loop: Loop) -> None:
    def thrower() -> None:
        raise ValueError("deep")

    async def fail() -> None:
        thrower()

    task = loop.create_task(fail())
    await asyncio.wait([task])
    names = [frame.f_code.co_name for frame in task.get_stack()]
    assert names[-2:] == ["fail", "thrower"]
    assert isinstance(task.exception(), ValueError)


async def test_private_attributes(loop: Loop) -> None:
    release = loop.create_future()

    async def wait() -> object:
        return await release

    coroutine = wait()
    task: Any = loop.create_task(coroutine)
    assert task._fut_waiter is None
    await next_turns(1)
    assert task._fut_waiter is release
    assert task._coro is coroutine
    assert task._must_cancel is False
    assert task._log_destroy_pending is True
    assert (task._state, task._loop, task._source_traceback) == ("PENDING", loop, None)
    assert "wait_for=" in repr(task)
    callbacks = [callback for callback, _ in release._callbacks]
    assert len(callbacks) == 1
    release.set_result("done")
    assert await task == "done"
    assert task._fut_waiter is None


@pytest.mark.parametrize("how", ["sleep", "event", "queue", "lock"])
async def test_a_parked_task_shows_what_it_waits_for(loop: Loop, how: str) -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    waits = {
        "sleep": lambda: asyncio.sleep(100),
        "event": asyncio.Event().wait,
        "queue": asyncio.Queue().get,
        "lock": lock.acquire,
    }
    task: Any = loop.create_task(waits[how]())
    await next_turns(2)
    assert isinstance(task._fut_waiter, asyncio.Future)
    assert not task._fut_waiter.done()
    assert task._fut_waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_root_task_shows_asyncios_own_callback(loop: Loop) -> None:
    from asyncio.base_events import _run_until_complete_cb  # type: ignore[attr-defined]

    async def main() -> bool:
        task: Any = asyncio.current_task()
        return any(callback is _run_until_complete_cb for callback, _ in task._callbacks)

    assert loop.run_until_complete(main())


async def test_results_cannot_be_set_from_outside(loop: Loop) -> None:
    task = loop.create_task(value())
    with pytest.raises(RuntimeError, match="Task does not support set_result operation"):
        task.set_result(1)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="Task does not support set_exception operation"):
        task.set_exception(ValueError())  # type: ignore[attr-defined]
    await task


async def test_a_lost_exception_is_reported(loop: Loop, errors: list[dict[str, Any]]) -> None:
    async def fail() -> None:
        raise error

    error = ValueError("lost")
    task = loop.create_task(fail())
    await next_turns(3)
    assert task.done()
    del task
    gc.collect()
    context = errors.pop()
    assert context["message"] == "Task exception was never retrieved"
    assert context["exception"] is error
    assert isinstance(context["future"], asyncio.Task)


async def test_a_waiting_task_survives_garbage_collection(loop: Loop) -> None:
    finished: list[int] = []

    async def worker(number: int) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        finished.append(number)

    for number in range(10):
        loop.create_task(worker(number))
    gc.collect()
    await asyncio.sleep(0.001)
    gc.collect()
    await asyncio.sleep(0.05)
    assert sorted(finished) == list(range(10))


async def test_a_task_parked_on_a_forgotten_future_survives(loop: Loop, loop_name: str) -> None:
    """Only a reference cycle holds such a task; asyncio loses it, oxloop's loop keeps it."""
    ends: list[str] = []
    futures: Any = __import__("weakref").WeakSet()

    async def parked() -> None:
        future = loop.create_future()
        futures.add(future)
        await future
        ends.append("completed")

    loop.create_task(parked(), name="parked")
    await next_turns(2)
    if loop_name == "asyncio":
        return  # whether it is lost depends on the collector
    gc.collect()
    for future in list(futures):
        future.set_result(None)
    await next_turns(3)
    assert ends == ["completed"]


async def test_a_done_task_frees_its_coroutine_and_frames(loop: Loop) -> None:
    import weakref

    class Held:
        pass

    held = Held()
    alive = weakref.ref(held)

    async def hold(thing: Held) -> None:
        await asyncio.sleep(0)

    gc.disable()
    try:
        task = loop.create_task(hold(held))
        del held
        await task
        del task
        assert alive() is None
    finally:
        gc.enable()
