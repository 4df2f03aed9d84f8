"""Futures, tasks, callbacks, loops and contexts whose methods misbehave: never a crash.

What asyncio answers to such an object is not a promise; that the process survives, that the
structures stay whole and that the loop works afterwards is. Each scenario runs in a child, so
that a crash fails one test, and ends with a check that the loop still does its work.
"""

import asyncio
import contextlib
import contextvars
import gc
from collections.abc import Callable
from typing import Any

import pytest
from loops import Factory

Loop = asyncio.AbstractEventLoop


@contextlib.contextmanager
def working(loop_factory: Factory) -> Any:
    """A loop that must still work after what is done to it."""
    loop = loop_factory()
    loop.set_exception_handler(lambda *_: None)
    yield loop
    gc.collect()
    done: list[int] = []
    loop.call_soon(done.append, 1)
    assert loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0.001, 7), 20)) == 7
    assert done == [1]
    loop.close()


def callbacks_with_evil_eq(loop_factory: Factory) -> None:
    """`remove_done_callback` compares, and the comparison changes the list."""
    with working(loop_factory) as loop:
        for evil_work in (
            lambda future: future.remove_done_callback(str),
            lambda future: len(future._callbacks or ()) < 50 and future.add_done_callback(str),
            lambda future: future.done() or future.set_result(1),
            lambda future: future.cancel(),
            lambda future: 1 // 0,
        ):
            future = loop.create_future()

            class Evil:
                def __call__(self, _: object) -> None: ...

                busy = False

                def __eq__(self, other: object, future: Any = future, work: Any = evil_work) -> Any:
                    if not Evil.busy:
                        Evil.busy = True
                        try:
                            work(future)
                        finally:
                            Evil.busy = False
                    return False

                __hash__ = object.__hash__

            for _ in range(5):
                future.add_done_callback(str)
                future.add_done_callback(Evil())
            with contextlib.suppress(ZeroDivisionError):
                future.remove_done_callback(Evil())
            with contextlib.suppress(ZeroDivisionError):
                future.remove_done_callback(repr)
            future.cancel()
            loop.run_until_complete(asyncio.sleep(0))


def callbacks_that_clear_the_list_in_eq(loop_factory: Factory) -> None:
    with working(loop_factory) as loop:
        future = loop.create_future()

        class Evil:
            busy = False

            def __call__(self, _: object) -> None: ...

            def __eq__(self, other: object) -> bool:
                if not Evil.busy:
                    Evil.busy = True
                    for callback in list(future._callbacks or ()):
                        future.remove_done_callback(callback[0])
                    Evil.busy = False
                return True

            __hash__ = object.__hash__

        for _ in range(8):
            future.add_done_callback(str)
        future.add_done_callback(Evil())
        future.remove_done_callback(Evil())
        future.cancel()


def results_with_evil_del(loop_factory: Factory) -> None:
    """Objects that call back into the loop when they are freed."""
    with working(loop_factory) as loop:
        freed: list[int] = []

        class Evil:
            def __del__(self) -> None:
                freed.append(1)
                loop.is_closed()
                with contextlib.suppress(RuntimeError):
                    loop.call_soon(str)
                    loop.call_later(1000, str).cancel()
                    loop.create_future().cancel()

        async def give() -> Evil:
            return Evil()

        for _ in range(10):
            future = loop.create_future()
            future.set_result(Evil())
            future.add_done_callback(lambda _, evil=Evil(): None)  # noqa: B008
            del future
            loop.call_soon(lambda evil: None, Evil())
            loop.call_later(1000, lambda evil: None, Evil()).cancel()
            loop.call_soon(lambda evil: None, Evil()).cancel()
            loop.run_until_complete(give())
        loop.run_until_complete(asyncio.sleep(0.001))
        gc.collect()
        assert len(freed) == 60, len(freed)
        loop.call_soon(lambda evil: None, Evil())
        loop.call_later(1000, lambda evil: None, Evil())


def what_is_left_at_close_has_evil_del(loop_factory: Factory) -> None:
    loop = loop_factory()
    freed: list[int] = []

    class Evil:
        def __del__(self) -> None:
            freed.append(1)
            with contextlib.suppress(RuntimeError):
                loop.call_soon(str)
            with contextlib.suppress(RuntimeError):
                loop.call_later(1, str)
            loop.close()

    for _ in range(5):
        loop.call_soon(lambda evil: None, Evil())
        loop.call_later(1000, lambda evil: None, Evil())
        loop.call_soon_threadsafe(lambda evil: None, Evil())
    loop.close()
    gc.collect()
    assert len(freed) == 15, len(freed)


def resurrected_futures_and_tasks(loop_factory: Factory) -> None:
    with working(loop_factory) as loop:
        saved: list[Any] = []
        loop.set_exception_handler(lambda _, context: saved.append(context.get("future")))
        for _ in range(5):
            future = loop.create_future()
            future.set_exception(ValueError())
            del future

        async def fail() -> None:
            raise ValueError

        for _ in range(5):
            loop.create_task(fail())
        loop.run_until_complete(asyncio.sleep(0.001))
        gc.collect()
        assert len(saved) == 10
        for future in saved:
            assert isinstance(future.exception(), ValueError)
        saved.clear()


def awaitables_with_evil_getattribute(loop_factory: Factory) -> None:
    with working(loop_factory) as loop:
        for evil_name in (
            "_asyncio_future_blocking",
            "get_loop",
            "add_done_callback",
            "result",
            "cancel",
        ):

            class Evil:
                _asyncio_future_blocking = True
                name = evil_name

                def __getattribute__(self, name: str) -> Any:
                    if name == type(self).name:
                        raise ZeroDivisionError(name)
                    return object.__getattribute__(self, name)

                def __await__(self) -> Any:
                    yield self
                    return 1

                def get_loop(self) -> Loop:
                    return loop

                def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
                    loop.call_soon(callback, self, context=context)

                def result(self) -> int:
                    return 1

                def cancel(self, msg: Any = None) -> bool:
                    return False

            async def wait() -> Any:
                return await Evil()

            for cancel in (False, True):
                task = loop.create_task(wait())
                loop.run_until_complete(asyncio.sleep(0))
                with contextlib.suppress(ZeroDivisionError):
                    if cancel:
                        task.cancel()
                loop.run_until_complete(asyncio.wait([task], timeout=0.02))
                if task.done() and not task.cancelled():
                    assert isinstance(task.exception(), ZeroDivisionError | RuntimeError | None)


def awaitables_that_change_under_the_task(loop_factory: Factory) -> None:
    """add_done_callback that finishes, cancels or steps the task while it is being parked."""
    with working(loop_factory) as loop:
        for number in range(3):

            class Evil:
                _asyncio_future_blocking = False
                kind = number

                def get_loop(self) -> Loop:
                    return loop

                def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
                    me: Any = asyncio.current_task()
                    if self.kind == 0:
                        me.cancel()
                    elif self.kind == 1:
                        me._fut_waiter  # noqa: B018
                        me.get_stack()
                        repr(me)
                    loop.call_soon(callback, self, context=context)

                def cancel(self, msg: Any = None) -> bool:
                    return False

                def result(self) -> int:
                    return 1

                def __await__(self) -> Any:
                    self._asyncio_future_blocking = True
                    yield self

            async def wait() -> None:
                await Evil()

            with contextlib.suppress(asyncio.CancelledError, RuntimeError, AttributeError):
                loop.run_until_complete(asyncio.wait_for(wait(), 0.1))


def coroutines_that_misbehave(loop_factory: Factory) -> None:
    """Objects that only look like coroutines, and step themselves or raise oddities."""
    from collections.abc import Coroutine

    with working(loop_factory) as loop:
        tasks: list[Any] = []

        class Evil(Coroutine[Any, Any, Any]):
            def __init__(self, work: Callable[[], Any]) -> None:
                self.work = work

            def send(self, value: Any) -> Any:
                return self.work()

            def throw(self, *error: Any) -> Any:
                raise ZeroDivisionError

            def close(self) -> None: ...

            def __await__(self) -> Any:
                yield

            def __repr__(self) -> str:
                raise ZeroDivisionError

        def stop(value: Any) -> Any:
            raise StopIteration(value)

        works: list[Callable[[], Any]] = [
            lambda: stop((1, 2)),
            lambda: stop(StopIteration(3)),
            lambda: 1 // 0,
            lambda: 5,
            lambda: tasks[-1],
            lambda: tasks[-1].cancel(),
            lambda: stop(tasks[-1]),
            lambda: tasks[-1].get_coro().send(None) if len(tasks) > 100 else stop(None),
        ]
        for work in works:
            tasks.append(loop.create_task(Evil(work)))
            with contextlib.suppress(ZeroDivisionError, RuntimeError, asyncio.CancelledError):
                loop.run_until_complete(asyncio.wait_for(tasks[-1], 0.05))
            with contextlib.suppress(ZeroDivisionError):
                repr(tasks[-1])
        tasks.clear()


def uninitialised_objects(loop_factory: Factory) -> None:
    """`__new__` without `__init__`, and `__init__` called twice: errors, never crashes."""
    with working(loop_factory) as loop:

        async def value() -> int:
            return 1

        task = loop.create_task(value())
        for sample in (loop.create_future(), task):
            kind: Any = type(sample)
            if kind is asyncio.Task:
                continue  # asyncio's own crashes here in some versions
            try:
                bare = kind.__new__(kind)
            except TypeError:
                continue
            for name in sorted(set(dir(kind)) - {"__class__", "__init__", "__new__"}):
                with contextlib.suppress(Exception):
                    attribute = getattr(bare, name)
                    if callable(attribute) and not name.startswith("__"):
                        attribute()
            for special in ("__repr__", "__iter__", "__await__", "__del__"):
                with contextlib.suppress(Exception):
                    getattr(bare, special)()
            del bare
        loop.run_until_complete(task)


def evil_loops(loop_factory: Factory) -> None:
    """asyncio's futures on a loop whose methods fail; our futures beside them."""

    class Evil:
        def get_debug(self) -> bool:
            raise ZeroDivisionError

        def call_soon(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

        def is_running(self) -> bool:
            return False

    class Debugless(Evil):
        def get_debug(self) -> bool:
            return False

    with working(loop_factory) as loop:
        kinds = {asyncio.Future, type(loop.create_future())}
        for kind in kinds:
            for evil in (Evil(), Debugless(), object(), 1):
                with contextlib.suppress(ZeroDivisionError, AttributeError, TypeError):
                    future = kind(loop=evil)
                    future.add_done_callback(str)
                    future.set_result(1)
                with contextlib.suppress(ZeroDivisionError, AttributeError, TypeError):
                    kind(loop=evil).cancel()


def evil_contexts(loop_factory: Factory) -> None:
    """Contexts that are none, or are already entered."""
    with working(loop_factory) as loop:
        for wrong in (1, "context", object()):
            with contextlib.suppress(TypeError, AttributeError):
                loop.call_soon(str, context=wrong)
            with contextlib.suppress(TypeError, AttributeError):
                future = loop.create_future()
                future.add_done_callback(str, context=wrong)
                future.set_result(1)
            with contextlib.suppress(Exception, asyncio.CancelledError):
                loop.run_until_complete(asyncio.sleep(0))
        context = contextvars.copy_context()

        def nested() -> None:
            task = loop.create_task(asyncio.sleep(0), context=context)
            loop.run_until_complete(asyncio.sleep(0))
            task.cancel()

        with contextlib.suppress(RuntimeError):
            context.run(nested)
        loop.run_until_complete(asyncio.sleep(0.001))


def evil_data(loop_factory: Factory) -> None:
    """Arguments whose conversions call back, fail or lie."""
    with working(loop_factory) as loop:

        class EvilNumber:
            def __float__(self) -> float:
                loop.call_soon(str)
                raise ZeroDivisionError

            def __index__(self) -> int:
                raise ZeroDivisionError

            def __radd__(self, other: Any) -> Any:
                raise ZeroDivisionError

            def __lt__(self, other: Any) -> Any:
                raise ZeroDivisionError

            __gt__ = __le__ = __lt__

        class EvilFile:
            def fileno(self) -> Any:
                return "three"

        for call in (
            lambda: loop.call_later(EvilNumber(), str),
            lambda: loop.add_reader(EvilFile(), str),
            lambda: loop.add_reader(EvilNumber(), str),
            lambda: loop.add_reader(1 << 70, str),
            lambda: loop.remove_writer(1 << 70),
            lambda: loop.call_soon(),
            lambda: loop.call_soon(str, unknown=1),
            lambda: loop.call_later(1),
            lambda: loop.create_task(),
            lambda: loop.run_until_complete(EvilNumber()),
            lambda: loop.run_in_executor(),
        ):
            with contextlib.suppress(
                ZeroDivisionError, TypeError, ValueError, OverflowError, OSError
            ):
                call()


SCENARIOS = [
    callbacks_with_evil_eq,
    callbacks_that_clear_the_list_in_eq,
    results_with_evil_del,
    what_is_left_at_close_has_evil_del,
    resurrected_futures_and_tasks,
    awaitables_with_evil_getattribute,
    awaitables_that_change_under_the_task,
    coroutines_that_misbehave,
    uninitialised_objects,
    evil_loops,
    evil_contexts,
    evil_data,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_trap(in_child: Any, scenario: Any) -> None:
    in_child(scenario)
