"""A program that ends without closing its loop: the interpreter's exit stays quiet.

The loop is then collected when modules can no longer be imported; its finalizer must not need
any. ResourceWarnings are off by default, so nothing at all may come to stderr.
"""

import asyncio
import signal
import socket
from typing import Any

import oxloop
import pytest
from loops import Factory

KEPT: list[object] = []


def never_run(loop_factory: Factory) -> None:
    KEPT.append(loop_factory())


def after_a_run(loop_factory: Factory) -> None:
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    KEPT.append(loop)


def with_registrations(loop_factory: Factory) -> None:
    loop = loop_factory()
    ours, peer = socket.socketpair()
    loop.add_reader(ours, print)
    loop.call_later(1000, print)
    loop.run_until_complete(asyncio.sleep(0))
    KEPT.extend((ours, peer, loop))


def with_a_signal_handler(loop_factory: Factory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.run_until_complete(asyncio.sleep(0))
    KEPT.append(loop)


def in_a_cycle(loop_factory: Factory) -> None:
    loop: Any = loop_factory()
    loop.own = loop
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize(
    "scenario",
    [never_run, after_a_run, with_registrations, with_a_signal_handler, in_a_cycle],
)
def test_nothing_is_printed(in_child: Any, scenario: Any) -> None:
    done = in_child(scenario, PYTHONWARNINGS="default,ignore::ResourceWarning")
    assert done.stdout == ""
    assert done.stderr == ""


async def queue_get() -> None:
    await oxloop.Queue().get()


async def wait_for() -> None:
    await oxloop.wait_for(asyncio.Event().wait(), 1000)


async def locked() -> None:
    lock = oxloop.Lock()
    await lock.acquire()
    async with lock:
        pass


async def sock_recv() -> None:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    KEPT.append(peer)
    await asyncio.get_running_loop().sock_recv(ours, 1)


async def with_a_cleanup() -> None:
    try:
        await oxloop.sleep(1000)
    finally:
        await oxloop.sleep(1000)


WAITING = [queue_get, wait_for, locked, sock_recv, with_a_cleanup]


def with_tasks_that_wait(loop_factory: Factory) -> None:
    loop = loop_factory()
    KEPT.extend(loop.create_task(wait()) for wait in WAITING)
    by_hand = oxloop.sleep(1000)
    loop.call_soon(by_hand.send, None)
    loop.run_until_complete(asyncio.sleep(0))
    KEPT.extend((by_hand, loop))


def test_native_coroutines_that_wait_are_closed_at_exit(in_child: Any) -> None:
    """When they get GeneratorExit the interpreter counts as ended, and PyO3 refuses to attach."""
    done = in_child(with_tasks_that_wait)
    assert "panicked" not in done.stderr
    assert "PanicException" not in done.stderr
