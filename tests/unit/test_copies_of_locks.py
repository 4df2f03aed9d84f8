"""`copy` and `pickle` of locks and queues that nobody waits for.

Every test runs with asyncio's classes, which say what is right, and with oxloop's.
"""

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import oxloop
import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop
Again = Callable[[Any], Any]

WAYS: dict[str, Again] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle-{protocol}": lambda thing, protocol=protocol: pickle.loads(
            pickle.dumps(thing, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.fixture(params=["asyncio", "oxloop"])
def ns(request: pytest.FixtureRequest) -> Any:
    """The namespace whose classes are tested."""
    return asyncio if request.param == "asyncio" else oxloop


@pytest.fixture(params=WAYS)
def again(request: pytest.FixtureRequest) -> Again:
    """A way of making a copy."""
    return WAYS[request.param]


class OwnSemaphore(asyncio.Semaphore):
    """A subclass of asyncio's, with an attribute and a slot."""

    __slots__ = ("kept",)


class OwnNativeSemaphore(oxloop.Semaphore):
    """The same of ours."""

    __slots__ = ("kept",)


class OwnQueue(asyncio.Queue):  # type: ignore[type-arg]
    """A subclass of asyncio's that replaces how items are kept."""

    def _init(self, maxsize: int) -> None:
        self.items: list[Any] = []

    def _put(self, item: Any) -> None:
        self.items.append(item)

    def _get(self) -> Any:
        return self.items.pop()

    def qsize(self) -> int:
        return len(self.items)

    def empty(self) -> bool:
        return not self.items


class OwnNativeQueue(oxloop.Queue):  # type: ignore[type-arg]
    """The same of ours."""

    _init = OwnQueue._init
    _put = OwnQueue._put
    _get = OwnQueue._get
    qsize = OwnQueue.qsize
    empty = OwnQueue.empty


class TakesCharge(asyncio.Event):
    """A subclass of asyncio's with a state of its own."""

    def __getstate__(self) -> Any:
        return ["flag", self.is_set()]

    def __setstate__(self, state: Any) -> None:
        self.__init__()  # type: ignore[misc]
        if state == ["flag", True]:
            self.set()


class NativeTakesCharge(oxloop.Event):
    """The same of ours."""

    __getstate__ = TakesCharge.__getstate__
    __setstate__ = TakesCharge.__setstate__


async def test_a_lock(loop: Loop, ns: Any, again: Again) -> None:
    lock = ns.Lock()
    other = again(lock)
    assert type(other) is type(lock) and not other.locked()
    async with other:
        assert other.locked() and not lock.locked()
    await lock.acquire()
    taken = again(lock)
    assert taken.locked()
    taken.release()
    assert lock.locked()


async def test_an_event(loop: Loop, ns: Any, again: Again) -> None:
    event = ns.Event()
    assert not again(event).is_set()
    event.set()
    other = again(event)
    event.clear()
    assert type(other) is type(event) and other.is_set()
    assert await other.wait() is True


async def test_a_semaphore(loop: Loop, ns: Any, again: Again) -> None:
    semaphore = ns.Semaphore(3)
    await semaphore.acquire()
    other = again(semaphore)
    assert type(other) is type(semaphore) and other._value == 2
    other.release()
    assert (semaphore._value, other._value) == (2, 3)


async def test_a_bounded_semaphore(loop: Loop, ns: Any, again: Again) -> None:
    semaphore = ns.BoundedSemaphore(2)
    await semaphore.acquire()
    other = again(semaphore)
    assert type(other) is type(semaphore)
    other.release()
    with pytest.raises(ValueError, match="released too many times"):
        other.release()
    assert semaphore._value == 1


async def test_a_condition(loop: Loop, ns: Any, again: Again) -> None:
    condition = ns.Condition()
    other = again(condition)
    assert type(other) is type(condition)
    assert (other._lock is condition._lock) is (again is copy.copy)
    async with other:
        assert other.locked() and other._lock.locked()
        other.notify_all()
    assert not other.locked()


async def test_a_barrier(loop: Loop, ns: Any, again: Again) -> None:
    barrier = ns.Barrier(2)
    other = again(barrier)
    assert type(other) is type(barrier)
    assert (other.parties, other.n_waiting, other.broken) == (2, 0, False)
    first = asyncio.ensure_future(other.wait())
    await next_turns(1)
    assert sorted([await other.wait(), await first]) == [0, 1]
    await barrier.abort()
    assert again(barrier).broken


@pytest.mark.parametrize("name", ["Queue", "LifoQueue", "PriorityQueue"])
async def test_a_queue(loop: Loop, ns: Any, again: Again, name: str) -> None:
    queue = getattr(ns, name)(4)
    for item in (2, 1, 3):
        queue.put_nowait(item)
    other = again(queue)
    assert type(other) is type(queue)
    assert (other.maxsize, other.qsize()) == (4, 3)
    got = [await other.get() for _ in range(3)]
    assert got == {"Queue": [2, 1, 3], "LifoQueue": [3, 1, 2], "PriorityQueue": [1, 2, 3]}[name]
    # Like all attributes, a plain copy has the deque or list itself.
    assert queue.qsize() == (0 if again is copy.copy else 3)
    for _ in range(3):
        other.task_done()
    await other.join()
    with pytest.raises(ValueError, match="called too many times"):
        other.task_done()
    assert queue._unfinished_tasks == 3


async def test_a_queue_among_its_own_items(loop: Loop, ns: Any, again: Again) -> None:
    queue = ns.Queue()
    queue.put_nowait([queue])
    other = again(queue)
    (item,) = other.get_nowait()
    assert item is (queue if again is copy.copy else other)


async def test_a_subclass_with_slots(loop: Loop, ns: Any, again: Again) -> None:
    if again in (WAYS["pickle-0"], WAYS["pickle-1"]):
        pytest.skip("these protocols do not take slots")
    semaphore: Any = (OwnSemaphore if ns is asyncio else OwnNativeSemaphore)(3)
    semaphore.kept, semaphore.name = ["kept"], "name"
    other = again(semaphore)
    assert type(other) is type(semaphore)
    assert (other._value, other.kept, other.name) == (3, ["kept"], "name")


async def test_subclasses_with_methods_of_their_own(loop: Loop, ns: Any, again: Again) -> None:
    queue: Any = (OwnQueue if ns is asyncio else OwnNativeQueue)(2)
    queue.put_nowait(1)
    other = again(queue)
    assert (type(other), other.items, other.maxsize) == (type(queue), [1], 2)
    other.put_nowait(2)
    assert other.full() and await other.get() == 2
    event: Any = (TakesCharge if ns is asyncio else NativeTakesCharge)()
    event.set()
    assert again(event).is_set()


async def test_attributes_of_the_instance(loop: Loop, ns: Any, again: Again) -> None:
    for thing in (ns.Lock(), ns.Event(), ns.Condition(), ns.Barrier(1), ns.Queue()):
        thing.mark = "mark"
        assert again(thing).mark == "mark"


async def test_who_is_waited_for_is_refused(loop: Loop, ns: Any, again: Again) -> None:
    if (ns, again) == (asyncio, copy.copy):
        pytest.skip("shares the list of who waits with its copy")
    lock, event, semaphore = ns.Lock(), ns.Event(), ns.Semaphore(0)
    condition, barrier, queue = ns.Condition(), ns.Barrier(2), ns.Queue()
    await lock.acquire()

    async def wait_for_condition() -> None:
        async with condition:
            await condition.wait()

    waits = [lock.acquire(), event.wait(), semaphore.acquire(), wait_for_condition()]
    waits += [barrier.wait(), queue.get()]
    tasks = [asyncio.ensure_future(each) for each in waits]
    await next_turns(2)
    for thing in (lock, event, semaphore, condition, barrier, queue):
        with pytest.raises(TypeError, match="cannot pickle"):
            again(thing)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
