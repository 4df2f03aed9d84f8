"""The process's wakeup descriptor (`signal.set_wakeup_fd`), when the loop is not its only user.

There is one for the whole process, and only the main thread can change it. Signal handlers need
it, so `add_signal_handler` takes it over whoever set it before. A loop that is closed in another
thread cannot give it back: then its number must never become somebody else's, or each signal
would write a byte into a stranger's file.
"""

import asyncio
import signal
import socket
import threading
from typing import Any

import loops
import pytest
from loops import Factory

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


def non_blocking_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    return pair


async def one_signal() -> None:
    """Install a handler, raise the signal, and wait for the handler to be called."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    signal.raise_signal(signal.SIGUSR1)
    async with asyncio.timeout(10):
        await arrived.wait()
    assert loop.remove_signal_handler(signal.SIGUSR1)


def one_is_set_already(loop_factory: Factory) -> None:
    reader, writer = non_blocking_pair()
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    loop = loop_factory()
    loop.run_until_complete(one_signal())
    loop.close()
    with pytest.raises(BlockingIOError):
        reader.recv(1)


def one_is_set_while_the_loop_runs(loop_factory: Factory) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        await one_signal()

    _, writer = non_blocking_pair()
    loop = loop_factory()
    loop.run_until_complete(main())
    loop.close()


def another_loop_has_handlers(loop_factory: Factory) -> None:
    first, second = loop_factory(), loop_factory()
    first.add_signal_handler(signal.SIGUSR2, print)
    second.run_until_complete(one_signal())
    second.close()
    first.run_until_complete(one_signal())
    first.close()


def closed_in_another_thread(loop_factory: Factory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    loop.run_until_complete(asyncio.sleep(0))
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()
    assert loop.is_closed()
    strangers = [end for _ in range(16) for end in non_blocking_pair()]
    for _ in range(10):
        signal.raise_signal(signal.SIGUSR1)
    for stranger in strangers:
        with pytest.raises(BlockingIOError):
            stranger.recv(1)
    following = loop_factory()
    following.run_until_complete(one_signal())
    following.close()
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(
    "scenario", [one_is_set_already, one_is_set_while_the_loop_runs, another_loop_has_handlers]
)
def test_handlers_take_it_over(in_child: Any, scenario: Any) -> None:
    in_child(scenario)


@only_ours
def test_a_loop_closed_in_another_thread(in_child: Any) -> None:
    """On oxloop only: asyncio's close() raises there, and its signal byte reaches a stranger."""
    in_child(closed_in_another_thread)
