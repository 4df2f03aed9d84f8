"""Handles of `call_soon_threadsafe`, cancelled by another thread while they run (Python 3.14).

Since then `cancel()` and `cancelled()` in another thread wait until a callback that runs has
returned: afterwards it either never runs or has run.
"""

import asyncio
import sys
import threading
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="handles are safe for other threads since Python 3.14"
)


def run_beside(loop: Loop, ask: str) -> list[Any]:
    """Call the method `ask` of a handle in a thread while its callback runs; the order of things.

    The callback goes on only once the thread is about to ask.
    """
    order: list[Any] = []
    started, asking = threading.Event(), threading.Event()

    def callback() -> None:
        started.set()
        assert asking.wait(20)
        # The other thread may be anywhere up to its wait; that must not matter.
        order.append("ran")

    def other_thread() -> None:
        assert started.wait(20)
        asking.set()
        order.append(getattr(handle, ask)())
        loop.call_soon_threadsafe(loop.stop)

    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=other_thread)
    thread.start()
    loop.run_forever()
    thread.join()
    return order


def test_cancel_waits_for_the_callback(loop: Loop) -> None:
    for _ in range(20):
        assert run_beside(loop, "cancel") == ["ran", None]


def test_cancelled_waits_for_the_callback(loop: Loop) -> None:
    for _ in range(20):
        assert run_beside(loop, "cancelled") == ["ran", False]


def test_an_exception_of_the_callback_ends_the_wait(loop: Loop, errors: list[Any]) -> None:
    started = threading.Event()

    def callback() -> None:
        started.set()
        raise ValueError("the callback fails")

    def other_thread() -> None:
        assert started.wait(20)
        handle.cancel()
        loop.call_soon_threadsafe(loop.stop)

    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=other_thread)
    thread.start()
    loop.run_forever()
    thread.join()
    assert [str(report["exception"]) for report in errors] == ["the callback fails"]
    errors.clear()


def test_the_callback_itself_does_not_wait(loop: Loop) -> None:
    seen = []

    def callback() -> None:
        seen.append(handle.cancelled())
        handle.cancel()
        seen.append(handle.cancelled())

    handle = loop.call_soon_threadsafe(callback)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == [False, True]


def test_cancelled_before_it_runs(loop: Loop) -> None:
    handle = loop.call_soon_threadsafe(pytest.fail, "cancelled, and run all the same")
    thread = threading.Thread(target=handle.cancel)
    thread.start()
    thread.join()
    assert handle.cancelled()
    loop.run_until_complete(asyncio.sleep(0))


def test_what_it_is(loop: Loop) -> None:
    handle = loop.call_soon_threadsafe(print)
    assert isinstance(handle, asyncio.events._ThreadSafeHandle)  # type: ignore[attr-defined]
    assert isinstance(handle, asyncio.Handle)
    assert repr(handle).startswith("<_ThreadSafeHandle ")
    assert not isinstance(
        loop.call_soon(int),
        asyncio.events._ThreadSafeHandle,  # type: ignore[attr-defined]
    )
    handle.cancel()
    assert repr(handle).startswith("<_ThreadSafeHandle cancelled")
