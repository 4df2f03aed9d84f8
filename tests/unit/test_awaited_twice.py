"""A native coroutine that two tasks await, and what becomes of the results of awaits."""

import asyncio
import copy
import gc
import weakref
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop


class Thing: ...


@pytest.mark.parametrize("kind", ["sleep", "sleep(0)", "event", "queue", "lock", "wait_for"])
async def test_the_second_is_refused_and_the_first_goes_on(loop: Loop, kind: str) -> None:
    event, queue, lock = oxloop.Event(), oxloop.Queue[str](), oxloop.Lock()
    if kind == "lock":
        await lock.acquire()
    shared: Any = {
        "sleep": lambda: oxloop.sleep(0.001, "slept"),
        "sleep(0)": lambda: oxloop.sleep(0, "slept"),
        "event": event.wait,
        "queue": queue.get,
        "lock": lock.acquire,
        "wait_for": lambda: oxloop.wait_for(event.wait(), None),
    }[kind]()

    async def wait() -> Any:
        return await shared

    first = asyncio.ensure_future(wait())
    second = asyncio.ensure_future(wait())
    await asyncio.wait([second])
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        second.result()
    event.set()
    queue.put_nowait("item")
    if kind == "lock":
        lock.release()
    assert await first


async def test_a_python_coroutine_given_to_two(loop: Loop) -> None:
    async def main() -> str:
        await asyncio.sleep(0.001)
        return "done"

    shared = main()
    first = asyncio.ensure_future(oxloop.wait_for(shared, None))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(oxloop.wait_for(shared, None))
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        await second
    assert await first == "done"


async def test_results_are_not_kept(loop: Loop) -> None:
    queue: Any = oxloop.Queue()
    for _ in range(3):
        queue.put_nowait(Thing())
        coroutine = queue.get()
        item = await coroutine
        gone = weakref.ref(item)
        del item
        assert gone() is None


async def test_frames_are_not_kept(loop: Loop) -> None:
    def by_hand(gone: list[Any]) -> Any:
        thing = Thing()
        gone.append(weakref.ref(thing))
        future = loop.create_future()
        future.set_result(5)
        iterator = future.__await__()
        try:
            next(iterator)
        except StopIteration as stop:
            return stop.value

    for _ in range(3):
        gone: list[Any] = []
        assert by_hand(gone) == 5
        gc.collect()
        assert gone[0]() is None


async def test_a_destructor_that_awaits_by_hand(loop: Loop) -> None:
    seen = []

    def stop_of() -> StopIteration:
        future = loop.create_future()
        future.set_result(5)
        try:
            next(future.__await__())
        except StopIteration as stop:
            return stop
        raise AssertionError

    class Destroyed:
        def __del__(self) -> None:
            stop = stop_of()
            seen.append((stop.value, repr(stop).startswith("StopIteration"), str(stop)))

    def frame() -> None:
        destroyed = Destroyed()
        stop_of().__notes__ = [destroyed]
        future = loop.create_future()
        future.set_result(5)
        try:
            next(future.__await__())
        except StopIteration:
            pass

    for _ in range(3):
        frame()
        assert stop_of().value == 5
        copy.copy(stop_of())
    assert len(seen) == 3
    assert {value for value, _, _ in seen} == {5}
