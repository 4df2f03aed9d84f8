"""The memory of a native coroutine that ended at once is used again: nobody can tell."""

from __future__ import annotations

import asyncio
import warnings
import weakref
from typing import Any

import oxloop
import pytest
from oxloop import _oxloop

Loop = asyncio.AbstractEventLoop


def set_event() -> Any:
    event = _oxloop.Event()
    event.set()
    return event


async def test_who_keeps_an_ended_one_keeps_it(loop: Loop) -> None:
    event = set_event()
    kept = []
    for _ in range(5):
        coroutine = event.wait()
        assert await coroutine is True
        kept.append(coroutine)
    assert len(set(map(id, kept))) == 5
    for coroutine in kept:
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine


async def test_each_has_its_own_name_and_result(loop: Loop) -> None:
    event, lock = set_event(), _oxloop.Lock()
    reader: Any = _oxloop.StreamReader(loop=loop)
    reader.feed_data(b"one\ntwo\n")
    for _ in range(2):
        waiting = event.wait()
        assert waiting.__qualname__ == "Event.wait"
        assert await waiting is True
        del waiting
        acquiring = lock.acquire()
        assert acquiring.__qualname__ == "Lock.acquire"
        assert await acquiring is True
        del acquiring
        lock.release()
        reading = reader.readline()
        assert reading.__qualname__ == "StreamReader.readline"
        assert await reading in (b"one\n", b"two\n")
        del reading


@pytest.mark.parametrize("size", [1, 4096, 4097, 100_000])
async def test_lines_of_all_sizes(loop: Loop, size: int) -> None:
    reader: Any = _oxloop.StreamReader(limit=2**20, loop=loop)
    lines = [bytes([65 + index]) * (size - 1) + b"\n" for index in range(3)]
    reader.feed_data(b"".join(lines))
    assert [await reader.readline() for _ in lines] == lines
    # One that comes as it is, by itself.
    reader.feed_data(lines[0])
    assert await reader.readline() is lines[0]


async def test_one_that_is_forgotten_is_warned_about_at_once(loop: Loop) -> None:
    event = set_event()
    for _ in range(3):
        await event.wait()
        with pytest.warns(RuntimeWarning, match="'Event.wait' was never awaited"):
            event.wait()


async def test_weak_references_die_with_their_owner(loop: Loop) -> None:
    event = set_event()
    await event.wait()
    coroutine = event.wait()
    before = weakref.ref(coroutine)
    await coroutine
    after = weakref.ref(coroutine, lambda _: None)
    del coroutine
    assert before() is None and after() is None
    # One that got its weak reference when it had ended already is not used for the next.
    coroutine = event.wait()
    await coroutine
    late = weakref.ref(coroutine)
    del coroutine
    following = event.wait()
    assert late() is None
    await following


async def test_one_that_was_brought_back_and_ended_is_not_used(loop: Loop) -> None:
    event = set_event()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        event.wait()
        assert str(caught[0].message) == "coroutine 'Event.wait' was never awaited"
        # The report has the coroutine, which is as good as new.
        assert await caught.pop().source is True
        # A finalizer runs once per object.
        for _ in range(3):
            event.wait()
    assert len(caught) == 3


async def test_the_reader_dies_when_it_is_dropped(loop: Loop) -> None:
    reader: Any = oxloop.StreamReader(loop=loop)
    gone = weakref.ref(reader)
    reader.feed_data(b"line\n")
    assert await reader.readline() == b"line\n"
    del reader
    assert gone() is None
