"""After a fork the child has no running loop, may not use its parent's, and can make its own."""

import asyncio
import os
from typing import Any

from loops import Factory


def in_fork(child: Any) -> int:
    """Fork; the child runs `child` and ends with its result as status. Returns that status."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = child()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_inside(loop_factory: Factory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(3600, print)

        def child() -> int:
            try:
                asyncio.get_running_loop()
                return 1
            except RuntimeError:
                pass
            coroutine = asyncio.sleep(0)
            try:
                loop.run_until_complete(coroutine)
                return 2
            except RuntimeError:
                coroutine.close()
            new = loop_factory()
            result = new.run_until_complete(asyncio.sleep(0.001, 7))
            new.close()
            return 0 if result == 7 else 3

        assert in_fork(child) == 0
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0.001)
        timer.cancel()

    loop = loop_factory()
    loop.run_until_complete(main())
    loop.close()


def fork_beside(loop_factory: Factory) -> None:
    """A loop that stands still: the child's close must not disturb the parent's loop."""
    import socket

    loop = loop_factory()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    received = loop.create_future()
    loop.add_reader(ours, lambda: received.done() or received.set_result(ours.recv(10)))
    loop.run_until_complete(asyncio.sleep(0))

    def child() -> int:
        new = loop_factory()
        result = new.run_until_complete(asyncio.sleep(0.001, 7))
        new.close()
        return 0 if result == 7 else 3

    assert in_fork(child) == 0
    peer.send(b"x")
    assert loop.run_until_complete(received) == b"x"
    loop.close()


def use_after_fork_raises(loop_factory: Factory) -> None:
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))

    def child() -> int:
        for number, call in enumerate(
            (
                lambda: loop.run_forever(),
                lambda: loop.call_soon(print),
                lambda: loop.call_later(1, print),
                lambda: loop.call_soon_threadsafe(print),
                lambda: loop.add_reader(0, print),
            ),
            start=1,
        ):
            try:
                call()
                return number
            except RuntimeError:
                pass
        return 0

    assert in_fork(child) == 0
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_fork_inside_a_running_loop(in_child: Any) -> None:
    in_child(fork_inside)


def test_fork_beside_a_loop(in_child: Any) -> None:
    in_child(fork_beside)


def test_use_of_the_parents_loop_raises(in_child: Any, loop_name: str) -> None:
    if loop_name == "oxloop":  # asyncio would share the parent's epoll set instead
        in_child(use_after_fork_raises)
