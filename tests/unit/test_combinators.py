"""gather, wait, wait_for, as_completed, shield, timeout, TaskGroup: asyncio's and oxloop's alike.

Every test runs with the names of both packages, on the loops of both: ours must work on asyncio's
loop with its tasks, and asyncio's on ours.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import oxloop
import pytest

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "oxloop"])
def ns(request: pytest.FixtureRequest) -> Any:
    return {"asyncio": asyncio, "oxloop": oxloop}[request.param]


@pytest.fixture(params=["asyncio", "oxloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory: Any = {"asyncio": asyncio.SelectorEventLoop, "oxloop": oxloop.EventLoop}[request.param]

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run


async def value(result: Any, steps: int = 1) -> Any:
    for _ in range(steps):
        await asyncio.sleep(0)
    return result


async def failing(error: BaseException, steps: int = 1) -> Any:
    await value(None, steps)
    raise error


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def test_gather(ns: Any, run: Run) -> None:
    async def main() -> None:
        assert await ns.gather() == []
        assert await ns.gather(value(1, 3), value(2), asyncio.ensure_future(value(3))) == [1, 2, 3]
        same = value(4)
        assert await ns.gather(same, same) == [4, 4]
        error = ValueError("one")
        results = await ns.gather(failing(error), value(1), return_exceptions=True)
        assert results == [error, 1]
        with pytest.raises(ValueError) as caught:
            await ns.gather(failing(error), value(1, 5))
        assert caught.value is error
        with pytest.raises(TypeError):
            ns.gather(value(1), 5)
        await value(None, 5)

    run(main())


def test_gather_is_cancelled_through_its_children(ns: Any, run: Run) -> None:
    async def main() -> None:
        children = [asyncio.ensure_future(forever()) for _ in range(3)]
        outer = ns.gather(*children, return_exceptions=True)
        assert isinstance(outer, asyncio.Future)
        await value(None)
        assert outer.cancel("enough") is True
        assert not outer.done()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert all(child.cancelled() for child in children)
        assert outer.cancel() is False

    run(main())


def test_wait(ns: Any, run: Run) -> None:
    async def main() -> None:
        slow = asyncio.ensure_future(forever())
        quick = asyncio.ensure_future(value(1))
        assert await ns.wait([quick, slow], return_when=ns.FIRST_COMPLETED) == ({quick}, {slow})
        bad = asyncio.ensure_future(failing(KeyError()))
        assert await ns.wait([bad, slow], return_when=ns.FIRST_EXCEPTION) == ({bad}, {slow})
        assert await ns.wait({slow}, timeout=0.001) == (set(), {slow})
        assert not slow.done()
        waiting = asyncio.ensure_future(ns.wait([slow]))
        await value(None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not slow.done()
        assert not slow._callbacks  # type: ignore[attr-defined]
        slow.cancel()
        assert await ns.wait([slow, quick]) == ({slow, quick}, set())
        for wrong, error in (([], ValueError), (slow, TypeError)):
            with pytest.raises(error):
                await ns.wait(wrong)
        with pytest.raises(ValueError, match="Invalid return_when value: never"):
            await ns.wait([slow], return_when="never")
        with pytest.raises(ValueError, match="Invalid return_when value: None"):
            await ns.wait([slow], return_when=None)
        coroutine = value(1)
        with pytest.raises(TypeError, match="Passing coroutines is forbidden"):
            await ns.wait([coroutine])
        coroutine.close()

    run(main())


def test_wait_for(ns: Any, run: Run) -> None:
    async def main() -> None:
        assert await ns.wait_for(value(1), 5) == 1
        assert await ns.wait_for(value(2), None) == 2
        with pytest.raises(TimeoutError) as caught:
            await ns.wait_for(forever(), 0.001)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        started = []

        async def start() -> None:
            started.append(1)

        with pytest.raises(TimeoutError):
            await ns.wait_for(start(), 0)
        assert started == []
        done = asyncio.get_running_loop().create_future()
        done.set_result(7)
        assert await ns.wait_for(done, -1) == 7
        with pytest.raises(KeyError):
            await ns.wait_for(failing(KeyError()), 5)
        future = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(ns.wait_for(future, 10))
        await value(None, 2)
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError, match="from outside"):
            await task
        assert future.cancelled()

    run(main())


def test_as_completed(ns: Any, run: Run) -> None:
    async def main() -> None:
        results = [await next_one for next_one in ns.as_completed([value(1, 9), value(2, 1)])]
        assert results == [2, 1]
        late = []
        for next_one in ns.as_completed([value(1), forever()], timeout=0.001):
            try:
                late.append(await next_one)
            except TimeoutError:
                late.append("late")
        assert late == [1, "late"]
        assert list(ns.as_completed([])) == []
        with pytest.raises(TypeError):
            list(ns.as_completed(asyncio.get_running_loop().create_future()))

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio's has it since 3.13")
def test_as_completed_async_iteration_as_asyncio(ns: Any, run: Run) -> None:
    run(async_iteration(ns))


def test_as_completed_async_iteration_on_every_version(run: Run) -> None:
    run(async_iteration(oxloop))


async def async_iteration(ns: Any) -> None:
    tasks = [asyncio.ensure_future(value(1, 9)), asyncio.ensure_future(value(2, 1))]
    found = [future async for future in ns.as_completed(tasks)]
    assert found == [tasks[1], tasks[0]]
    with pytest.raises(TimeoutError):
        async for _ in ns.as_completed([forever()], timeout=0.001):
            pass


def test_as_completed_passes_a_wake_up_on(ns: Any, run: Run) -> None:
    """The first of two that wait is cancelled after its wake-up: the other one gets the result."""

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        other = asyncio.get_running_loop().create_future()
        first, second = ns.as_completed([future, other])
        tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
        await value(None, 2)
        future.set_result(5)
        await value(None)
        tasks[0].cancel()
        other.cancel()
        assert await tasks[1] == 5
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()

    run(main())


def test_shield(ns: Any, run: Run) -> None:
    async def main() -> None:
        inner = asyncio.ensure_future(value(3, 3))
        outer = asyncio.ensure_future(ns.shield(inner))
        waiting = asyncio.ensure_future(ns.wait_for(outer, 5))
        await value(None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await inner == 3
        assert await ns.shield(inner) == 3
        with pytest.raises(KeyError):
            await ns.shield(failing(KeyError()))
        inner = asyncio.ensure_future(forever())
        outer = ns.shield(inner)
        inner.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert outer.cancelled()

    run(main())


def test_timeout(ns: Any, run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with ns.timeout(None) as guard:
            assert guard.when() is None and "when=None" in repr(guard)
            guard.reschedule(loop.time() + 100)
            assert "active" in repr(guard)
        assert not guard.expired() and repr(guard) == "<Timeout [finished]>"
        with pytest.raises(RuntimeError, match="Cannot change state of finished Timeout"):
            guard.reschedule(None)
        with pytest.raises(RuntimeError, match="has already been entered"):
            await guard.__aenter__()
        with pytest.raises(TimeoutError) as caught:
            async with ns.timeout(0.001) as guard:
                await forever()
        assert guard.expired() and repr(guard) == "<Timeout [expired]>"
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        with pytest.raises(TimeoutError):
            async with ns.timeout_at(loop.time() - 1):
                await forever()
        with pytest.raises(RuntimeError, match="has not been entered"):
            ns.timeout(1).reschedule(None)
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0

    run(main())


def test_nested_timeouts(ns: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with ns.timeout(0.001) as outer:
                with pytest.raises(TimeoutError):
                    async with ns.timeout(10) as inner:
                        inner.reschedule(asyncio.get_running_loop().time() - 1)
                        await forever()
                await forever()
        assert outer.expired()

    run(main())


def test_timeout_outside_a_task(ns: Any, run: Run) -> None:
    async def main() -> None:
        done = asyncio.get_running_loop().create_future()

        def callback() -> None:
            entering = ns.timeout(1).__aenter__()
            try:
                entering.send(None)
            except RuntimeError as err:
                done.set_result(str(err))

        asyncio.get_running_loop().call_soon(callback)
        assert await done == "Timeout should be used inside a task"

    run(main())


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, oxloop.new_event_loop])
@pytest.mark.parametrize("awaited", ["forever", "asyncio.Future", "subclass"])
def test_timeout_leaves_an_earlier_cancellation_alone(factory: Any, awaited: str) -> None:
    """A deadline that has passed takes no credit for a cancel() that came before the block.

    asyncio's turns it into TimeoutError (python/cpython#134471).
    """

    class Own(oxloop.Future[None]):
        pass

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("from outside")
        async with oxloop.timeout(0):
            match awaited:
                case "forever":
                    await forever()
                case "asyncio.Future":
                    await asyncio.Future()
                case "subclass":
                    await Own()

    with pytest.raises(asyncio.CancelledError, match="from outside"):
        asyncio.Runner(loop_factory=factory).run(main())


def test_wait_for_never_loses_a_cancellation() -> None:
    """Cancelled when the awaited task is done already (python/cpython#86296, open in 3.11)."""

    async def main() -> None:
        inner = asyncio.ensure_future(value(1))
        outer = asyncio.ensure_future(oxloop.wait_for(inner, 10))
        await inner
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    oxloop.run(main())


def test_task_group(ns: Any, run: Run) -> None:
    async def main() -> None:
        async with ns.TaskGroup() as group:
            tasks = [group.create_task(value(i), name=f"t{i}") for i in range(3)]
            assert "tasks=3" in repr(group)
        assert [task.result() for task in tasks] == [0, 1, 2]
        assert [task.get_name() for task in tasks] == ["t0", "t1", "t2"]
        coroutine = value(1)
        with pytest.raises(RuntimeError, match="is finished"):
            group.create_task(coroutine)
        coroutine.close()
        with pytest.raises(RuntimeError, match="has already been entered"):
            await group.__aenter__()
        with pytest.raises(ExceptionGroup, match="unhandled errors in a TaskGroup") as caught:
            async with ns.TaskGroup() as group:
                other = group.create_task(forever())
                group.create_task(failing(KeyError("a")))
                await forever()
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert caught.value.__suppress_context__ and caught.value.__cause__ is None
        assert other.cancelled()
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        with pytest.raises(ExceptionGroup) as caught:
            async with ns.TaskGroup() as group:
                other = group.create_task(forever())
                raise ValueError("in the block")
        assert [type(error) for error in caught.value.exceptions] == [ValueError]

    run(main())


def test_task_group_cancelled_from_outside(ns: Any, run: Run) -> None:
    async def main() -> None:
        children = []

        async def grouped() -> None:
            async with ns.TaskGroup() as group:
                children.append(group.create_task(forever()))

        task = asyncio.ensure_future(grouped())
        await value(None, 3)
        task.cancel("stop")
        with pytest.raises(asyncio.CancelledError, match="stop"):
            await task
        assert children[0].cancelled()

    run(main())


def test_task_group_cancel(run: Run) -> None:
    """`TaskGroup.cancel` of 3.15, on every version."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        async with oxloop.TaskGroup() as group:
            child = group.create_task(forever())
            await value(None)
            group.cancel()
            group.cancel()
            await forever()
        assert child.cancelled() and task.cancelling() == 0
        group.cancel()
        before = oxloop.TaskGroup()
        before.cancel()
        reached = []
        async with before:
            await value(None)
            reached.append("not cancelled")
        assert reached == [] and task.cancelling() == 0

        async def canceller(group: Any) -> None:
            group.cancel()

        async with oxloop.TaskGroup() as group:
            group.create_task(canceller(group))
            child = group.create_task(forever())
        assert child.cancelled() and task.cancelling() == 0

    run(main())


def test_task_group_can_be_subclassed(run: Run) -> None:
    class Group(oxloop.TaskGroup):
        def __init__(self, limit: int) -> None:
            super().__init__()
            self.limit = limit

        def create_task(self, coro: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            return super().create_task(coro, **kwargs)

    async def main() -> None:
        async with Group(3) as group:
            assert isinstance(group, oxloop.TaskGroup) and group.limit == 3
            task = group.create_task(value(1))
        assert task.result() == 1

    run(main())


def test_isinstance_of_asyncio_s_classes() -> None:
    async def main() -> None:
        assert isinstance(oxloop.timeout(1), asyncio.Timeout)
        assert isinstance(oxloop.TaskGroup(), asyncio.TaskGroup)
        assert isinstance(oxloop.gather(value(1)), asyncio.Future)

    oxloop.run(main())


def test_what_was_waited_for_is_freed_at_once(run: Run) -> None:
    class Result:
        pass

    async def main() -> None:
        async def make() -> Result:
            await asyncio.sleep(0)
            return Result()

        gone = []
        for wait in (
            lambda: oxloop.gather(make(), make()),
            lambda: oxloop.wait_for(make(), 5),
            lambda: oxloop.shield(make()),
        ):
            result = await wait()
            gone.append(weakref.ref(result[0] if isinstance(result, list) else result))
            del result
        await value(None, 3)
        assert [ref() for ref in gone] == [None] * len(gone)

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_a_failed_group_leaves_no_cycle(run: Run) -> None:
    """The exception of a task group is freed without the collector (python/cpython#128552)."""

    class Boom(Exception):
        pass

    async def main() -> weakref.ref[BaseException]:
        gone = []

        async def boom() -> None:
            await asyncio.sleep(0)
            raise Boom

        try:
            async with oxloop.TaskGroup() as group:
                group.create_task(boom())
        except ExceptionGroup as errors:
            gone.append(weakref.ref(errors.exceptions[0]))
        await value(None, 3)
        return gone[0]

    gc.collect()
    gc.disable()
    try:
        gone = run(main())
        assert gone() is None
    finally:
        gc.enable()


def test_an_exception_that_nobody_retrieves_is_reported(ns: Any, run: Run) -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        reports: list[str] = []
        loop.set_exception_handler(lambda _, report: reports.append(report["message"]))
        for start in (ns.gather, ns.shield):
            future = start(failing(ValueError()))
            await asyncio.wait([future])
            del future
            await value(None, 3)
        return reports

    assert run(main()) == [
        "_GatheringFuture exception was never retrieved",
        "Future exception was never retrieved",
    ]


def trace(ns: Any, run: Run) -> list[Any]:
    """Which task is where, iteration by iteration."""
    events: list[Any] = []

    async def ticker() -> None:
        for tick in range(40):
            events.append(tick)
            await asyncio.sleep(0)

    async def log(name: str, awaitable: Any) -> None:
        try:
            result = await awaitable
        except BaseException as err:
            events.append((name, type(err).__name__))
            if isinstance(err, asyncio.CancelledError):
                raise
        else:
            events.append((name, "done" if not isinstance(result, list) else result))

    async def grouped(error: BaseException | None) -> None:
        async with ns.TaskGroup() as group:
            group.create_task(value(1, 2))
            group.create_task(failing(error, 3) if error else value(1, 3))

    async def limited(delay: float) -> None:
        async with ns.timeout(delay):
            await value(None, 4)

    async def main() -> None:
        shielded = asyncio.ensure_future(value(1, 5))
        starts = [
            ns.gather(value(1, 2), value(2, 4)),
            ns.gather(value(1, 2), failing(KeyError(), 3)),
            ns.wait([asyncio.ensure_future(value(1, 3))]),
            ns.wait([shielded, asyncio.ensure_future(value(1, 1))], return_when="FIRST_COMPLETED"),
            ns.wait_for(value(1, 3), 10),
            ns.wait_for(forever(), 0),
            ns.shield(shielded),
            grouped(None),
            grouped(KeyError()),
            limited(10),
            limited(-1),
            next(iter(ns.as_completed([value(1, 2), value(2, 3)]))),
        ]
        tasks = [asyncio.ensure_future(ticker())]
        tasks += [asyncio.ensure_future(log(f"n{i}", start)) for i, start in enumerate(starts)]
        await value(None, 2)
        cancelled = [
            asyncio.ensure_future(log("c1", ns.gather(forever(), forever()))),
            asyncio.ensure_future(log("c2", ns.wait_for(forever(), 10))),
            asyncio.ensure_future(log("c3", ns.shield(shielded))),
            asyncio.ensure_future(log("c4", grouped(None))),
        ]
        await value(None, 2)
        for task in cancelled:
            task.cancel()
        await asyncio.wait([*tasks, *cancelled])

    run(main())
    return events


@pytest.mark.skipif(sys.version_info < (3, 13), reason="older rules differ by an iteration")
def test_everything_takes_as_many_iterations_as_in_asyncio(run: Run) -> None:
    assert trace(oxloop, run) == trace(asyncio, run)
