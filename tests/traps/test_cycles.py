"""Reference cycles of loop, transport, protocol, task, handle: freed, with and without the gc.

With the collector off, an orderly end must leave nothing behind: what the library itself links
together it must also unlink. Cycles that the user makes are the collector's business; it must
find them.
"""

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from loops import Factory
from recorder import Recorder, next_turns, tcp_pair, with_socket


class Thing:
    """Something to hold."""


async def connection(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """A connection of which only the library holds the cycle transport - protocol."""

    class Forgets(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            del self.transport

    served, client = await tcp_pair(Forgets, Forgets)
    client.transport.write(b"x")
    await served.wait_received(1)
    watched = [served, client, served.transport, client.transport]
    references = [weakref.ref(each) for each in watched]
    del watched
    client.transport.close()
    await client.lost
    await served.lost
    return references


async def tasks(loop: asyncio.AbstractEventLoop) -> list[Any]:
    async def fail() -> None:
        raise ValueError

    held = [loop.create_task(asyncio.sleep(0)), loop.create_task(fail())]
    await asyncio.wait(held)
    assert held[1].exception()
    return [weakref.ref(task) for task in held]


async def cancelled_tasks(loop: asyncio.AbstractEventLoop) -> list[Any]:
    task = loop.create_task(asyncio.sleep(100))
    await next_turns(1)
    task.cancel()
    await asyncio.wait([task])
    return [weakref.ref(task)]


async def futures_and_handles(loop: asyncio.AbstractEventLoop) -> list[Any]:
    thing = Thing()
    future = loop.create_future()
    future.add_done_callback(lambda _, thing=thing: None)
    future.set_result(thing)
    handle = loop.call_soon(lambda thing: None, thing)
    timer = loop.call_later(0, lambda thing: None, thing)
    cancelled = loop.call_later(1000, lambda thing: None, thing)
    cancelled.cancel()
    await asyncio.sleep(0.01)
    return [weakref.ref(each) for each in (thing, future, handle, timer)]


async def readers(loop: asyncio.AbstractEventLoop) -> list[Any]:
    import socket

    ours, peer = socket.socketpair()
    thing = Thing()
    loop.add_reader(ours, lambda thing: None, thing)
    loop.add_writer(ours, lambda thing: None, thing)
    loop.remove_reader(ours)
    loop.remove_writer(ours)
    ours.close()
    peer.close()
    return [weakref.ref(thing)]


SCENARIOS: list[Callable[..., Any]] = [
    connection,
    tasks,
    cancelled_tasks,
    futures_and_handles,
    readers,
]


def asyncio_keeps_transports(loop_factory: Factory) -> bool:
    """Whether this is asyncio's own loop of a version that links transports to themselves."""
    return loop_factory is asyncio.SelectorEventLoop and sys.version_info < (3, 12)


def orderly_ends_need_no_collector(loop_factory: Factory) -> None:
    loop = loop_factory()
    gc.collect()
    gc.disable()
    for scenario in SCENARIOS:
        if scenario is connection and asyncio_keeps_transports(loop_factory):
            continue
        references = loop.run_until_complete(scenario(loop))
        loop.run_until_complete(next_turns(5))
        left = [reference() for reference in references if reference() is not None]
        assert left == [], f"{scenario.__name__} leaves {left}"
    loop.close()


def the_collector_finds_cycles(loop_factory: Factory) -> None:
    loop = loop_factory()
    loop.set_exception_handler(lambda *_: None)
    references: list[Any] = []

    async def cycles() -> None:
        transport, protocol, peer = await with_socket()
        protocol.cycle = [protocol, transport, loop]  # type: ignore[attr-defined]
        transport.close()
        await protocol.lost
        peer.close()
        future = loop.create_future()
        future.cycle = future  # type: ignore[attr-defined]
        future.add_done_callback(lambda _, future=future: None)
        task = loop.create_task(asyncio.sleep(0))
        task.cycle = task  # type: ignore[attr-defined]
        await task
        handle = loop.call_later(1000, lambda holder: None, holder := [])
        holder.append(handle)
        handle.cancel()
        failed = loop.create_future()
        error = ValueError()
        error.future = failed  # type: ignore[attr-defined]
        failed.set_exception(error)
        failed.exception()
        for each in (transport, protocol, future, task, handle, failed):
            references.append(weakref.ref(each))

    loop.run_until_complete(cycles())
    loop.run_until_complete(next_turns(3))
    gc.collect()
    left = [reference() for reference in references if reference() is not None]
    assert left == [], left
    loop.close()


def a_closed_loop_is_collected(loop_factory: Factory) -> None:
    """Although a timer, a reader, a pending future and the loop's attributes point to it."""
    import socket

    loop: Any = loop_factory()
    ours, peer = socket.socketpair()
    thing = Thing()
    loop.cycle = loop
    loop.call_later(1000, lambda *_: None, loop, thing)
    loop.call_soon(lambda *_: None, loop, thing)
    loop.call_soon_threadsafe(lambda *_: None, loop, thing)
    loop.add_reader(ours, lambda *_: None, loop, thing)
    loop.set_exception_handler(lambda own, _, loop=loop: None)
    future = loop.create_future()
    future.add_done_callback(lambda _, loop=loop: None)
    loop.run_until_complete(asyncio.sleep(0))
    loop.remove_reader(ours)
    references = [weakref.ref(loop), weakref.ref(thing), weakref.ref(future)]
    loop.close()
    ours.close()
    peer.close()
    del loop, thing, future
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def many_loops_leave_nothing(loop_factory: Factory) -> None:
    import os

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once() -> None:
        loop = loop_factory()
        loop.run_until_complete(connection(loop))
        loop.close()

    once()
    gc.collect()
    before = descriptors()
    for _ in range(20):
        once()
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize(
    "scenario",
    [
        orderly_ends_need_no_collector,
        the_collector_finds_cycles,
        a_closed_loop_is_collected,
        many_loops_leave_nothing,
    ],
)
def test_trap(in_child: Any, scenario: Any) -> None:
    in_child(scenario)
