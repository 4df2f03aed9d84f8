"""`Task.__init__` called again on a task: on a foreign loop, on its own loop, in its own step.

Nobody should do this, but a subclass that calls ``super().__init__`` twice does. Since Python 3.15
that is a RuntimeError; before, CPython's tasks allow it, and what a task is registered with then
differs from the loop that it now belongs to. Neither may be taken for the other, and neither may
keep the task for ever. The step that the first call scheduled is left over: it may be reported,
but must not harm the task.
"""

import asyncio
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import loops
import pytest
from loops import Factory

Loop = asyncio.AbstractEventLoop

allowed = pytest.mark.skipif(
    sys.version_info >= (3, 15), reason="since Python 3.15 a task is initialised once"
)

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


@pytest.fixture
def foreign() -> Iterator[Loop]:
    """A loop of asyncio's own class."""
    loop = loops.factory("asyncio")()
    yield loop
    loop.close()


async def value(of: int) -> int:
    await asyncio.sleep(0)
    return of


def task_kind(loop: Loop) -> Any:
    """The class that `loop` makes its tasks of."""
    task = loop.create_task(value(0))
    loop.run_until_complete(task)
    return type(task)


def result_of(task: Any, loop: Loop) -> object:
    """Run `task` on `loop` to its end; fails if it does not come."""
    loop.run_until_complete(asyncio.wait([task], timeout=10))
    assert task.done()
    return task.result()


def take_leftovers(loop: Loop, errors: list[dict[str, Any]]) -> None:
    """Run the step that was left over; what it reports must be an ordinary exception."""
    loop.run_until_complete(asyncio.sleep(0))
    for context in errors:
        assert isinstance(context.get("exception"), Exception), context
    errors.clear()


@allowed
def test_on_a_foreign_loop(loop: Loop, foreign: Loop, errors: list[dict[str, Any]]) -> None:
    first = value(1)
    task = task_kind(loop)(first, loop=loop)
    task.__init__(value(2), loop=foreign)
    assert task.get_loop() is foreign
    assert result_of(task, foreign) == 2
    first.close()
    assert asyncio.all_tasks(loop) == asyncio.all_tasks(foreign) == set()
    take_leftovers(loop, errors)
    assert task.result() == 2


@allowed
def test_from_a_foreign_loop(loop: Loop, foreign: Loop, errors: list[dict[str, Any]]) -> None:
    reported: list[dict[str, Any]] = []
    foreign.set_exception_handler(lambda _, context: reported.append(context))
    first = value(1)
    task = task_kind(loop)(first, loop=foreign)
    task.__init__(value(2), loop=loop)
    assert task.get_loop() is loop
    assert result_of(task, loop) == 2
    first.close()
    assert asyncio.all_tasks(loop) == asyncio.all_tasks(foreign) == set()
    take_leftovers(foreign, reported)
    assert task.result() == 2


@allowed
def test_twice_on_one_loop_is_not_kept(loop: Loop, errors: list[dict[str, Any]]) -> None:
    first = value(1)
    task = task_kind(loop)(first, loop=loop)
    task.__init__(value(2), loop=loop)
    first.close()
    take_leftovers(loop, errors)
    assert result_of(task, loop) == 2
    assert asyncio.all_tasks(loop) == set()
    reference = weakref.ref(task)
    del task
    errors.clear()
    gc.collect()
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    assert reference() is None


def inside_its_own_step(loop_factory: Factory) -> None:
    make_foreign = loops.factory("asyncio")
    for make_home, make_new in (
        (loop_factory, make_foreign),
        (make_foreign, loop_factory),
        (loop_factory, loop_factory),
    ):
        home, new, ours = make_home(), make_new(), loop_factory()
        reported: list[dict[str, Any]] = []
        for each in (home, new):
            each.set_exception_handler(lambda _, context: reported.append(context))
        other = value(2)

        async def reinitialise(other: Any = other, new: Loop = new) -> int:
            task.__init__(other, loop=new)
            return 1

        task = task_kind(ours)(reinitialise(), loop=home)
        for _ in range(5):
            home.run_until_complete(asyncio.sleep(0))
        assert task.done()
        assert all(isinstance(each["exception"], Exception) for each in reported), reported
        assert home.run_until_complete(asyncio.sleep(0, 7)) == 7
        assert new.run_until_complete(asyncio.sleep(0, 7)) == 7
        assert task not in asyncio.all_tasks(home) | asyncio.all_tasks(new)
        other.close()
        for each in (home, new, ours):
            each.close()


@allowed
@only_ours
def test_inside_its_own_step(in_child: Any) -> None:
    """On oxloop only: CPython 3.12 and 3.13 crash when their own tasks are treated so."""
    done = in_child(inside_its_own_step)
    assert "Panic" not in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 15), reason="refused since Python 3.15")
def test_refused(loop: Loop) -> None:
    first, second = value(1), value(2)
    task = task_kind(loop)(first, loop=loop)
    future = loop.create_future()
    for again in (lambda: task.__init__(second, loop=loop), lambda: future.__init__(loop=loop)):
        with pytest.raises(RuntimeError, match="object is already initialized"):
            again()
    second.close()
    assert result_of(task, loop) == 1
