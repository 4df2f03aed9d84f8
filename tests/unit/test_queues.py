"""Queue, LifoQueue and PriorityQueue: order, waiting, shutdown, attributes, subclasses.

Every test runs with asyncio's classes, which say what is right, and with oxloop's, on both loops.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import math
import sys
import types
import weakref
from typing import Any

import pytest
from oxloop import _oxloop
from recorder import next_turns

Loop = asyncio.AbstractEventLoop
KINDS = ("Queue", "LifoQueue", "PriorityQueue")


@pytest.fixture(params=["asyncio", "oxloop"])
def ns(request: pytest.FixtureRequest) -> types.ModuleType:
    """The namespace whose classes are tested."""
    return asyncio if request.param == "asyncio" else _oxloop


def require_shutdown(ns: Any) -> None:
    """`shutdown` is new in asyncio of 3.13; oxloop has it everywhere."""
    if ns is asyncio and sys.version_info < (3, 13):
        pytest.skip("asyncio has no Queue.shutdown before 3.13")


@pytest.mark.parametrize(
    ("kind", "order"),
    [("Queue", [2, 3, 1]), ("LifoQueue", [1, 3, 2]), ("PriorityQueue", [1, 2, 3])],
)
async def test_order_of_each_kind(loop: Loop, ns: Any, kind: str, order: list[int]) -> None:
    queue = getattr(ns, kind)()
    for number in (2, 3, 1):
        queue.put_nowait(number)
    assert queue.qsize() == 3 and not queue.empty() and not queue.full()
    assert [queue.get_nowait() for _ in range(3)] == order
    assert queue.empty()
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


async def test_putters_wait_for_room(loop: Loop, ns: Any) -> None:
    queue = ns.Queue(2)
    trace: list[Any] = []

    async def produce() -> None:
        for number in range(6):
            await queue.put(number)
            trace.append(("put", number))

    task = loop.create_task(produce())
    await next_turns(3)
    assert trace == [("put", 0), ("put", 1)]
    assert queue.full()
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(9)
    assert [await queue.get() for _ in range(6)] == list(range(6))
    await task


async def test_put_and_get_do_not_suspend_if_they_need_not(loop: Loop, ns: Any) -> None:
    queue = ns.Queue(1)
    for coroutine, expected in ((queue.put("item"), None), (queue.get(), "item")):
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        assert stopped.value.value == expected


async def test_getters_are_served_in_order(loop: Loop, ns: Any) -> None:
    queue = ns.Queue()
    tasks = [loop.create_task(queue.get()) for _ in range(4)]
    await next_turns(1)
    for number in range(4):
        queue.put_nowait(number)
    assert [await task for task in tasks] == list(range(4))


async def test_a_cancelled_getter_passes_its_item_on(loop: Loop, ns: Any) -> None:
    queue = ns.Queue()
    first, second = loop.create_task(queue.get()), loop.create_task(queue.get())
    await next_turns(1)
    queue.put_nowait("item")
    first.cancel()
    assert await second == "item"
    assert first.cancelled()
    assert not queue._getters


async def test_a_cancelled_putter_passes_its_place_on(loop: Loop, ns: Any) -> None:
    queue = ns.Queue(1)
    queue.put_nowait(0)
    first, second = loop.create_task(queue.put(1)), loop.create_task(queue.put(2))
    await next_turns(1)
    assert queue.get_nowait() == 0
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert queue.get_nowait() == 2
    assert not queue._putters


async def test_join_waits_until_all_is_done(loop: Loop, ns: Any) -> None:
    queue = ns.Queue()
    await queue.join()
    for number in range(3):
        queue.put_nowait(number)
    joining = loop.create_task(queue.join())
    for _ in range(3):
        await next_turns(2)
        assert not joining.done()
        queue.get_nowait()
        queue.task_done()
    await joining
    assert queue._unfinished_tasks == 0
    with pytest.raises(ValueError, match="called too many times"):
        queue.task_done()


@pytest.mark.parametrize("kind", KINDS)
async def test_shutdown_lets_the_items_out(loop: Loop, ns: Any, kind: str) -> None:
    require_shutdown(ns)
    queue = getattr(ns, kind)(1)
    queue.put_nowait(1)
    putting = loop.create_task(queue.put(2))
    await next_turns(1)
    queue.shutdown()
    assert "shutdown" in repr(queue)
    with pytest.raises(ns.QueueShutDown):
        await putting
    with pytest.raises(ns.QueueShutDown):
        queue.put_nowait(3)
    assert await queue.get() == 1
    with pytest.raises(ns.QueueShutDown):
        await queue.get()
    with pytest.raises(ns.QueueShutDown):
        queue.get_nowait()


async def test_shutdown_at_once_drops_the_items(loop: Loop, ns: Any) -> None:
    require_shutdown(ns)
    queue = ns.Queue()
    getting = loop.create_task(queue.get())
    await next_turns(1)
    queue.shutdown(immediate=True)
    with pytest.raises(ns.QueueShutDown):
        await getting
    queue = ns.Queue()
    queue.put_nowait(1)
    joining = loop.create_task(queue.join())
    await next_turns(1)
    queue.shutdown(immediate=True)
    await joining
    assert queue.empty() and queue._unfinished_tasks == 0


async def test_there_is_one_class_of_shutdown_errors(loop: Loop) -> None:
    theirs = getattr(asyncio, "QueueShutDown", _oxloop.QueueShutDown)
    assert _oxloop.QueueShutDown is theirs
    assert issubclass(theirs, Exception)


async def test_reprs(loop: Loop, ns: Any) -> None:
    queue = ns.Queue(3)
    assert str(queue) == "<Queue maxsize=3>"
    assert repr(queue) == f"<Queue at {id(queue):#x} maxsize=3>"
    getting = loop.create_task(queue.get())
    await next_turns(1)
    assert str(queue) == "<Queue maxsize=3 _getters[1]>"
    for number in range(2):
        queue.put_nowait(number)
    assert str(queue) == "<Queue maxsize=3 _queue=[0, 1] tasks=2>"
    await getting
    assert str(ns.LifoQueue()) == "<LifoQueue maxsize=0>"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_items_shown_are_the_items(loop: Loop, ns: Any, kind: str) -> None:
    queue = getattr(ns, kind)()
    for number in (3, 1, 2):
        queue.put_nowait(number)
    items = queue._queue
    assert isinstance(items, collections.deque if kind == "Queue" else list)
    assert sorted(items) == [1, 2, 3]
    queue.put_nowait(0)
    assert len(items) == 4
    items.clear()
    assert queue.empty()
    queue.put_nowait(7)
    assert list(items) == [7]
    assert await queue.get() == 7


@pytest.mark.parametrize("maxsize", [-1, 0, math.inf, 0.5, True, 2**70])
async def test_odd_sizes(loop: Loop, ns: Any, maxsize: Any) -> None:
    queue = ns.Queue(maxsize)
    assert queue.maxsize == maxsize
    queue.put_nowait(1)
    assert queue.full() == (maxsize in (0.5, True))


async def test_a_size_that_is_no_number(loop: Loop, ns: Any) -> None:
    queue = ns.Queue("many")
    with pytest.raises(TypeError):
        queue.put_nowait(1)
    with pytest.raises(TypeError):
        await queue.put(1)


async def test_subclass_with_its_own_store(loop: Loop, ns: Any) -> None:
    calls: list[str] = []

    class Unique(ns.Queue):
        def _init(self, maxsize: int) -> None:
            calls.append(f"_init({maxsize})")
            self._queue = {}

        def _put(self, item: Any) -> None:
            calls.append("_put")
            self._queue[item] = None

        def _get(self) -> Any:
            calls.append("_get")
            return self._queue.popitem()[0]

    queue = Unique(2)
    for item in ("a", "a", "b"):
        await queue.put(item)
    assert queue.qsize() == 2 and queue.full()
    assert [await queue.get(), queue.get_nowait()] == ["b", "a"]
    assert queue.empty()
    assert calls == ["_init(2)", "_put", "_put", "_put", "_get", "_get"]


async def test_subclass_that_calls_up(loop: Loop, ns: Any) -> None:
    for kind in KINDS:
        base: Any = getattr(ns, kind)

        class Counted(base):
            puts = 0

            def _put(self, item: Any) -> None:
                self.puts += 1
                super()._put(item)

            def put_nowait(self, item: Any) -> None:
                super().put_nowait(item + 1)

        queue = Counted(maxsize=3)
        await queue.put(1)
        queue.put_nowait(2)
        assert sorted([await queue.get(), await queue.get()]) == [2, 3]
        assert queue.puts == 2


async def test_subclass_that_says_when_it_is_full(loop: Loop, ns: Any) -> None:
    class Gate(ns.Queue):
        closed = False

        def full(self) -> bool:
            return self.closed or super().full()

        def empty(self) -> bool:
            return self.closed or super().empty()

    queue = Gate()
    queue.closed = True
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(1)
    putting = loop.create_task(queue.put(1))
    await next_turns(1)
    queue.closed = False
    queue._putters[0].set_result(None)
    await putting
    queue.closed = True
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


async def test_generic_alias_attributes_and_the_collector(loop: Loop, ns: Any) -> None:
    for kind in KINDS:
        queue = getattr(ns, kind)()
        assert type(type(queue)[int]) is types.GenericAlias
        queue.me = queue
        if kind != "PriorityQueue":
            queue.put_nowait(queue)
        gone = weakref.ref(queue)
        del queue
        gc.collect()
        assert gone() is None


async def test_the_inheritance_of_the_kinds(loop: Loop) -> None:
    for kind in KINDS:
        queue = getattr(_oxloop, kind)()
        assert isinstance(queue, _oxloop.Queue)
        assert isinstance(queue, asyncio.Queue)
        assert isinstance(queue, getattr(asyncio, kind))
        assert type(queue).__module__ == "oxloop"


def test_a_queue_belongs_to_the_loop_in_which_somebody_waited(loop_factory: Any, ns: Any) -> None:
    queue = ns.Queue()

    async def wait() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get(), 0.001)

    async def wait_elsewhere() -> None:
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            await queue.get()

    for body in (wait, wait_elsewhere):
        loop = loop_factory()
        try:
            loop.run_until_complete(body())
        finally:
            loop.close()


class Meddler:
    """An item whose comparison does something to the queue."""

    def __init__(self, queue: Any, meddle: Any) -> None:
        self.queue, self.meddle = queue, meddle

    def __lt__(self, other: object) -> bool:
        self.meddle(self.queue)
        return False


@pytest.mark.parametrize(
    "meddle",
    [
        lambda queue: queue.put_nowait(Meddler(queue, lambda _: None)),
        lambda queue: queue.get_nowait(),
        lambda queue: queue._queue.clear(),
        lambda queue: queue.__init__(),
    ],
    ids=["put", "get", "clear", "init"],
)
async def test_items_whose_comparison_changes_the_queue(loop: Loop, ns: Any, meddle: Any) -> None:
    queue = ns.PriorityQueue()
    outcomes: list[str] = []
    for turn in range(12):
        quiet = Meddler(queue, (lambda _: None) if turn % 3 else meddle)
        for operation in (lambda item=quiet: queue.put_nowait(item), queue.get_nowait):
            try:
                operation()
            except (RuntimeError, IndexError, asyncio.QueueEmpty, RecursionError) as error:
                outcomes.append(type(error).__name__)
    assert queue.qsize() == len(queue._queue) >= 0
    assert set(outcomes) <= {"RuntimeError", "IndexError", "QueueEmpty", "RecursionError"}
