"""What `await` gives back from native coroutines and futures, whatever the value is."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from oxloop import _oxloop

Loop = asyncio.AbstractEventLoop


class Thing:
    """A value whose end can be watched."""


VALUES = [
    None,
    True,
    0,
    "text",
    (),
    (1, 2),
    (StopIteration(3),),
    StopIteration(4),
    ValueError("as a value"),
    ValueError,
    StopIteration,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_every_value_arrives(loop: Loop, value: Any) -> None:
    queue: Any = _oxloop.Queue()
    queue.put_nowait(value)
    assert await queue.get() is value
    future = loop.create_future()
    loop.call_soon(future.set_result, value)
    if not (isinstance(value, type) and issubclass(value, StopIteration)):
        assert await future is value
    assert await _oxloop.sleep(0, value) is value


async def test_a_value_dies_when_it_is_dropped(loop: Loop) -> None:
    queue: Any = _oxloop.Queue()
    for _ in range(3):
        queue.put_nowait(Thing())
        thing = await queue.get()
        gone = weakref.ref(thing)
        del thing
        assert gone() is None


async def test_stop_iterations_that_are_caught_and_kept(loop: Loop) -> None:
    kept = []
    for number in range(40):
        coroutine: Any = _oxloop.sleep(0, number) if number % 2 else _oxloop.Event()
        if not number % 2:
            coroutine.set()
            coroutine = coroutine.wait()
        else:
            next(coroutine)
        with pytest.raises(StopIteration) as stopped:
            next(coroutine)
        kept.append(stopped.value)
    assert [stop.value for stop in kept] == [n if n % 2 else True for n in range(40)]
    for stop in kept:
        assert isinstance(stop, StopIteration)
        assert str(stop) == ""
        stop.note = stop  # type: ignore[attr-defined]
    del kept, stop, stopped
    gc.collect()
    queue: Any = _oxloop.Queue()
    queue.put_nowait("after")
    assert await queue.get() == "after"


async def test_a_result_does_not_keep_the_context_of_an_error(loop: Loop) -> None:
    queue: Any = _oxloop.Queue()
    try:
        raise ValueError("handled")
    except ValueError:
        queue.put_nowait(1)
        assert await queue.get() == 1
    with pytest.raises(asyncio.QueueEmpty) as empty:
        queue.get_nowait()
    assert empty.value.__context__ is None


async def test_a_result_is_let_go_when_its_coroutine_is(loop: Loop) -> None:
    queue: Any = _oxloop.Queue()
    for _ in range(3):
        queue.put_nowait(Thing())
        coroutine = queue.get()
        thing = await coroutine
        gone = weakref.ref(thing)
        del coroutine, thing
        assert gone() is None
        future = loop.create_future()
        future.set_result(Thing())
        thing = await future
        gone = weakref.ref(thing)
        del future, thing
        assert gone() is None


async def test_a_destructor_that_runs_between_two_results(loop: Loop) -> None:
    """What a result's end awaits by hand does not disturb the result that follows it."""
    queue: Any = _oxloop.Queue()
    seen: list[Any] = []

    class Last:
        def __del__(self) -> None:
            coroutine = queue.get()
            with pytest.raises(StopIteration) as stopped:
                coroutine.__await__().__next__()
            seen.append(stopped.value.value)

    queue.put_nowait(Last())  # nobody keeps it: it dies with its coroutine, or with the next result
    queue.put_nowait("inner")
    queue.put_nowait("outer")
    coroutine = queue.get()
    await coroutine
    result = await queue.get()
    del coroutine
    assert sorted([result, *seen]) == ["inner", "outer"]
    assert queue.empty()
