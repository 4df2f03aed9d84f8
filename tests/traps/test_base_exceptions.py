"""A BaseException in the middle of a batch goes out of the loop and loses no later callback."""

import asyncio
import socket
from typing import Any

import pytest
from recorder import Recorder

Loop = asyncio.AbstractEventLoop


class Out(BaseException):
    """Like an exit: not an Exception."""


KINDS = [KeyboardInterrupt, SystemExit]


def leave(kind: type[BaseException]) -> None:
    raise kind


def run_until_out(loop: Loop, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        loop.run_forever()


def go_on(loop: Loop) -> None:
    loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0.005), 10))


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_batch_of_callbacks(loop: Loop, kind: type[BaseException]) -> None:
    calls: list[int] = []
    for number in range(100):
        if number in (30, 60):
            loop.call_soon(leave, kind)
        loop.call_soon(calls.append, number)
    run_until_out(loop, kind)
    assert calls == list(range(30))
    run_until_out(loop, kind)
    assert calls == list(range(60))
    go_on(loop)
    assert calls == list(range(100))


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_batch_of_timers(loop: Loop, kind: type[BaseException]) -> None:
    calls: list[int] = []
    base = loop.time() - 1
    for number in range(20):
        if number == 10:
            loop.call_at(base + number * 0.01 - 0.001, leave, kind)
        loop.call_at(base + number * 0.01, calls.append, number)
    run_until_out(loop, kind)
    go_on(loop)
    assert calls == list(range(20))


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_batch_of_tasks(loop: Loop, kind: type[BaseException]) -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        if number == 5:
            raise kind
        ended.append(number)

    tasks = [loop.create_task(work(number)) for number in range(10)]
    run_until_out(loop, kind)
    go_on(loop)
    assert ended == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert isinstance(tasks[5].exception(), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_batch_of_readers(loop: Loop, kind: type[BaseException]) -> None:
    pairs = [socket.socketpair() for _ in range(10)]
    seen: set[int] = set()

    def read(number: int) -> None:
        loop.remove_reader(pairs[number][0])
        seen.add(number)
        if number == 4:
            raise kind

    for number, (ours, peer) in enumerate(pairs):
        loop.add_reader(ours, read, number)
        peer.send(b"x")
    run_until_out(loop, kind)
    go_on(loop)
    assert seen == set(range(10))
    for one, two in pairs:
        one.close()
        two.close()


@pytest.mark.parametrize("kind", KINDS)
def test_in_done_callbacks_and_threadsafe_calls(loop: Loop, kind: type[BaseException]) -> None:
    calls: list[str] = []
    future = loop.create_future()
    future.add_done_callback(lambda _: calls.append("before"))
    future.add_done_callback(lambda _: leave(kind))
    future.add_done_callback(lambda _: calls.append("after"))
    future.set_result(None)
    loop.call_soon_threadsafe(leave, kind)
    loop.call_soon_threadsafe(calls.append, "threadsafe")
    run_until_out(loop, kind)
    run_until_out(loop, kind)
    go_on(loop)
    assert calls == ["before", "after", "threadsafe"]


@pytest.mark.parametrize("name", ["data_received", "connection_made", "connection_lost"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_protocol(loop: Loop, kind: type[BaseException], name: str, errors: Any) -> None:
    """It comes out of the loop, and the other connection still gets its data."""

    def raising(self: Recorder, *_: Any) -> None:
        raise kind

    ours, peer = socket.socketpair()
    other, other_peer = socket.socketpair()
    _, healthy = loop.run_until_complete(loop.create_connection(Recorder, sock=other))
    protocol_class = type("Raising", (Recorder,), {name: raising})
    if name == "connection_made":
        with pytest.raises(kind):
            loop.run_until_complete(loop.create_connection(protocol_class, sock=ours))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        go_on(loop)
    else:
        loop.run_until_complete(loop.create_connection(protocol_class, sock=ours))
        peer.send(b"x")
        if name == "connection_lost":
            peer.close()
        run_until_out(loop, kind)
    other_peer.send(b"still served")
    received = loop.run_until_complete(asyncio.wait_for(healthy.wait_received(12), 10))
    assert received == b"still served"
    healthy.transport.close()
    go_on(loop)
    errors.clear()
    for sock in (ours, peer, other_peer):
        sock.close()


def test_another_base_exception_of_a_callback(loop: Loop, errors: list[dict[str, Any]]) -> None:
    """Not an exit: it is reported like any other error, and the loop goes on."""
    calls: list[int] = []
    loop.call_soon(leave, Out)
    loop.call_soon(calls.append, 1)
    go_on(loop)
    assert calls == [1]
    assert isinstance(errors.pop()["exception"], Out)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_end_of_a_connection(loop: Loop, kind: type[BaseException]) -> None:
    """The transport is closed all the same; asyncio tells the end again and closes it then."""
    lost: list[BaseException | None] = []

    class Leaving(asyncio.Protocol):
        times = 0

        def eof_received(self) -> None:
            self.times += 1
            if self.times == 1:
                raise kind

        def connection_lost(self, exc: BaseException | None) -> None:
            lost.append(exc)
            loop.stop()

    ours, peer = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(Leaving, ours))
    peer.close()
    run_until_out(loop, kind)
    if not lost:
        loop.run_forever()
    assert lost == [None]
    assert transport.is_closing()
