"""Subclasses of futures, locks and timeouts: their own methods are called where asyncio calls them.

Every test runs with asyncio's classes, which say what is right, and with oxloop's, on both loops.
"""

import asyncio
import types
from typing import Any

import pytest
from oxloop import _oxloop

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=["asyncio", "oxloop"])
def ns(request: pytest.FixtureRequest) -> types.ModuleType:
    """The namespace whose classes are derived from."""
    return asyncio if request.param == "asyncio" else _oxloop


@pytest.mark.parametrize("name", ["Semaphore", "BoundedSemaphore"])
async def test_acquire_asks_a_semaphores_own_locked(loop: Loop, ns: Any, name: str) -> None:
    base: Any = getattr(ns, name)

    class Closed(base):
        closed = True

        def locked(self) -> bool:
            return self.closed or super().locked()

    semaphore = Closed(2)
    first = asyncio.ensure_future(semaphore.acquire())
    await asyncio.sleep(0)
    assert not first.done()
    assert semaphore._value == 2
    first.cancel()
    await asyncio.wait([first])
    semaphore.closed = False
    async with semaphore:
        assert semaphore._value == 1
    assert semaphore._value == 2


async def test_an_error_of_a_semaphores_own_locked(loop: Loop, ns: Any) -> None:
    class Failing(ns.Semaphore):  # type: ignore[misc]
        def locked(self) -> bool:
            raise ZeroDivisionError

    semaphore = Failing()
    with pytest.raises(ZeroDivisionError):
        await semaphore.acquire()
    assert semaphore._value == 1


async def test_a_condition_that_sets_its_own_acquire_and_release(loop: Loop, ns: Any) -> None:
    class Watched(ns.Condition):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []
            self.take, self.give = self.acquire, self.release
            self.acquire, self.release = self.watched_acquire, self.watched_release

        async def watched_acquire(self) -> Any:
            self.calls.append("acquire")
            return await self.take()

        def watched_release(self) -> None:
            self.calls.append("release")
            self.give()

    condition = Watched()

    async def wait() -> Any:
        async with condition:
            return await condition.wait()

    waiting = asyncio.ensure_future(wait())
    while not condition._waiters:
        await asyncio.sleep(0)
    assert condition.calls == ["acquire", "release"]
    async with condition:
        condition.notify_all()
    assert await waiting is True
    assert condition.calls == ["acquire", "release"] * 3
    assert not condition.locked()


async def test_a_barrier_shows_its_own_properties(loop: Loop, ns: Any) -> None:
    class Odd(ns.Barrier):  # type: ignore[misc]
        n_waiting = "some"
        parties = "many"

    assert repr(Odd(2)).endswith(" [filling, waiters:some/many]>")

    class Broken(ns.Barrier):  # type: ignore[misc]
        broken = True

    assert repr(Broken(2)).endswith(" [filling]>")


async def test_entering_a_timeout_calls_its_own_reschedule(loop: Loop, ns: Any) -> None:
    class Watched(ns.Timeout):  # type: ignore[misc]
        def __init__(self, when: float | None) -> None:
            super().__init__(when)
            self.calls: list[float | None] = []

        def reschedule(self, when: float | None) -> None:
            self.calls.append(when)
            super().reschedule(when)

    when = loop.time() + 1000
    for given in (when, None):
        async with Watched(given) as timeout:
            assert timeout.calls == [given]
            assert timeout.when() == given
    for deadline in (loop.time(), loop.time() + 0.001):
        timeout = Watched(deadline)
        with pytest.raises(TimeoutError):
            async with timeout:
                await loop.create_future()
        assert timeout.expired()
        assert timeout.calls == [deadline]


async def test_the_reschedule_of_a_timeout_may_put_it_off(loop: Loop, ns: Any) -> None:
    class Never(ns.Timeout):  # type: ignore[misc]
        def reschedule(self, when: float | None) -> None:
            super().reschedule(None)

    async with Never(loop.time()) as timeout:
        await asyncio.sleep(0)
    assert timeout.when() is None
    assert not timeout.expired()


@pytest.mark.parametrize("delay_s", [0, 0.001])
async def test_the_deadline_calls_a_timeouts_own_method(
    loop: Loop, ns: Any, delay_s: float
) -> None:
    class Watched(ns.Timeout):  # type: ignore[misc]
        fired = False

        def _on_timeout(self) -> None:
            self.fired = True
            super()._on_timeout()

    timeout = Watched(loop.time() + delay_s)
    with pytest.raises(TimeoutError):
        async with timeout:
            await loop.create_future()
    assert timeout.fired


async def test_a_futures_own_result_is_asked_when_a_task_wakes(loop: Loop, ns: Any) -> None:
    class Checked(ns.Future):  # type: ignore[misc]
        def result(self) -> Any:
            if super().result() == "bad":
                raise ValueError("a bad result")
            return super().result()

    async def wait(future: Any) -> Any:
        return await future

    for result in ("good", "bad"):
        future = Checked(loop=loop)
        waiting = loop.create_task(wait(future))
        await asyncio.sleep(0)
        future.set_result(result)
        await asyncio.wait([waiting])
        if result == "good":
            assert waiting.result() == "good"
        else:
            with pytest.raises(ValueError, match="a bad result"):
                waiting.result()


async def test_a_tasks_own_result_is_asked_when_another_wakes(loop: Loop, ns: Any) -> None:
    class Failing(ns.Task):  # type: ignore[misc]
        def result(self) -> Any:
            raise KeyError("its own")

    async def nothing() -> None:
        pass

    with pytest.raises(KeyError, match="its own"):
        await Failing(nothing(), loop=loop)
