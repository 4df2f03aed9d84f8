"""`add_reader` and `add_writer`: level-triggered, replaceable, removable at any moment."""

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    yield one, two
    one.close()
    two.close()


@pytest.mark.parametrize("kind", ["int", "object"])
async def test_reader_and_writer(loop: Loop, pair: Pair, kind: str) -> None:
    ours, peer = pair
    fd: Any = ours.fileno() if kind == "int" else ours
    received = loop.create_future()
    writable = loop.create_future()

    def read(*args: Any) -> None:
        loop.remove_reader(fd)
        received.set_result((args, ours.recv(10)))

    def write() -> None:
        loop.remove_writer(fd)
        writable.set_result(None)

    assert loop.add_reader(fd, read, 1, "two") is None  # type: ignore[func-returns-value]
    loop.add_writer(fd, write)
    await writable
    assert not received.done()
    peer.send(b"data")
    assert await received == ((1, "two"), b"data")
    assert loop.remove_reader(fd) is False
    assert loop.remove_writer(fd) is False


async def test_a_closed_socket_is_still_found(loop: Loop, pair: Pair) -> None:
    """As anyio does it: close the socket, then stop watching it."""
    ours, peer = pair
    calls: list[str] = []
    loop.add_reader(ours, calls.append, "read")
    peer.send(b"data")
    ours.close()
    assert loop.remove_reader(ours) is True
    with pytest.raises(ValueError, match="-1"):
        loop.remove_reader(ours)
    await next_turns(3)
    assert calls == []


async def test_a_closed_socket_does_not_answer_for_its_successor(loop: Loop, pair: Pair) -> None:
    if type(loop).__module__.startswith("asyncio"):
        pytest.skip("asyncio's selector refuses the successor")
    ours, peer = pair
    loop.add_reader(ours, print)
    number = ours.fileno()
    ours.close()
    os.dup2(peer.fileno(), number)
    successor = socket.socket(fileno=number)
    try:
        calls: list[str] = []
        loop.add_writer(successor, calls.append, "write")
        loop.add_reader(successor, calls.append, "read")
        while "write" not in calls:
            await asyncio.sleep(0)
        assert loop.remove_reader(successor) is True
        assert loop.remove_writer(successor) is True
    finally:
        successor.close()


async def test_removal_says_whether_there_was_one(loop: Loop, pair: Pair) -> None:
    ours, _ = pair
    assert loop.remove_reader(ours) is False
    loop.add_reader(ours, print)
    loop.add_writer(ours, print)
    assert loop.remove_reader(ours) is True
    assert loop.remove_reader(ours.fileno()) is False
    assert loop.remove_writer(ours) is True


async def test_readiness_is_by_level(loop: Loop, pair: Pair) -> None:
    """A callback that takes one byte is called again for the next."""
    ours, peer = pair
    received: list[bytes] = []
    complete = asyncio.Event()

    def read() -> None:
        received.append(ours.recv(1))
        if len(received) == 5:
            complete.set()

    loop.add_reader(ours, read)
    peer.send(b"abcde")
    await complete.wait()
    loop.remove_reader(ours)
    assert b"".join(received) == b"abcde"


async def test_a_second_registration_replaces_the_first(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    calls: list[str] = []
    done = asyncio.Event()

    def second() -> None:
        calls.append("second")
        loop.remove_reader(ours)
        done.set()

    loop.add_reader(ours, calls.append, "first")
    loop.add_reader(ours, second)
    peer.send(b"x")
    await done.wait()
    assert calls == ["second"]
    assert loop.remove_reader(ours) is False


async def test_reader_and_writer_are_independent(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    calls: list[str] = []
    done = asyncio.Event()

    def read() -> None:
        calls.append("read")
        loop.remove_reader(ours)
        done.set()

    loop.add_writer(ours, lambda: (calls.append("write"), loop.remove_writer(ours)))
    loop.add_reader(ours, read)
    while "write" not in calls:
        await asyncio.sleep(0)
    peer.send(b"x")
    await done.wait()
    assert calls == ["write", "read"]


async def test_a_callback_removes_another_that_is_ready(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    calls: list[int] = []

    def read(number: int) -> None:
        calls.append(number)
        for ours, _ in pairs:
            loop.remove_reader(ours)

    for number, (ours, peer) in enumerate(pairs):
        peer.send(b"x")
        loop.add_reader(ours, read, number)
    while not calls:
        await asyncio.sleep(0)
    await next_turns(5)
    assert len(calls) == 1
    for one, two in pairs:
        one.close()
        two.close()


async def test_a_callback_replaces_itself(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    calls: list[str] = []
    done = asyncio.Event()

    def second() -> None:
        calls.append("second")
        ours.recv(10)
        loop.remove_reader(ours)
        done.set()

    def first() -> None:
        calls.append("first")
        loop.add_reader(ours, second)

    loop.add_reader(ours, first)
    peer.send(b"x")
    await done.wait()
    assert calls == ["first", "second"]


async def test_removed_before_the_readiness_is_seen(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    calls: list[str] = []
    loop.add_reader(ours, calls.append, "read")
    peer.send(b"x")
    loop.remove_reader(ours)
    await next_turns(5)
    assert calls == []


async def test_end_of_stream_and_hang_up_wake_the_reader(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    ended = loop.create_future()

    def read() -> None:
        loop.remove_reader(ours)
        ended.set_result(ours.recv(10))

    loop.add_reader(ours, read)
    peer.close()
    assert await ended == b""


async def test_a_writer_of_a_full_socket_waits(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    sent = 0
    try:
        while True:
            sent += ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
    writable = asyncio.Event()
    loop.add_writer(ours, writable.set)
    await next_turns(5)
    assert not writable.is_set()
    while not writable.is_set():
        try:
            peer.recv(1 << 20)
        except BlockingIOError:
            pass
        await asyncio.sleep(0)
    loop.remove_writer(ours)


async def test_pipes(loop: Loop) -> None:
    read_end, write_end = os.pipe()
    received = loop.create_future()
    loop.add_reader(read_end, lambda: received.done() or received.set_result(os.read(read_end, 9)))
    written = asyncio.Event()
    loop.add_writer(write_end, written.set)
    await written.wait()
    loop.remove_writer(write_end)
    os.write(write_end, b"piped")
    assert await received == b"piped"
    loop.remove_reader(read_end)
    os.close(read_end)
    os.close(write_end)


async def test_bad_descriptors(loop: Loop) -> None:
    for wrong in (object(), "string", None):
        with pytest.raises(ValueError, match="Invalid file object"):
            loop.add_reader(wrong, print)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        loop.add_reader(-1, print)
    closed = socket.socket()
    closed.close()
    with pytest.raises(ValueError):
        loop.add_reader(closed, print)


async def test_a_regular_file_is_refused(loop: Loop, tmp_path: Any) -> None:
    with open(tmp_path / "file", "w+") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, print)
        assert loop.remove_reader(file) is False


async def test_a_descriptor_closed_before_its_removal_and_reused(loop: Loop) -> None:
    """The number comes back for another socket: only the new registration may be called."""
    calls: list[str] = []
    one, one_peer = socket.socketpair()
    number = one.fileno()
    loop.add_reader(number, calls.append, "old")
    one.close()
    assert loop.remove_reader(number) is True
    two, two_peer = socket.socketpair()
    moved = two if two.fileno() == number else None
    if moved is None:
        os.dup2(two.fileno(), number)
        two.close()
        moved = socket.socket(fileno=number)
    loop.add_reader(number, lambda: (calls.append("new"), moved.recv(10)))
    two_peer.send(b"x")
    while not calls:
        await asyncio.sleep(0)
    assert calls == ["new"]
    assert loop.remove_reader(number) is True
    for each in (moved, one_peer, two_peer):
        each.close()


async def test_a_number_that_int_takes(loop: Loop, pair: Pair) -> None:
    class Text:
        def fileno(self) -> str:
            return str(pair[0].fileno())

    file: Any = Text()
    called = asyncio.Event()
    loop.add_writer(file, called.set)
    await called.wait()
    assert loop.remove_writer(pair[0].fileno()) is True
    loop.add_reader(file, called.set)
    assert loop.remove_reader(file) is True


@pytest.mark.parametrize("error", [AttributeError, TypeError, ValueError, OSError, None])
async def test_no_number(loop: Loop, error: type[Exception] | None) -> None:
    """OSError is told as it is; whatever else says that this is no file is one and the same."""

    class Odd:
        def fileno(self) -> Any:
            if error is not None:
                raise error("no number")

    odd: Any = Odd()
    expected = OSError if error is OSError else ValueError
    text = "no number" if error is OSError else "Invalid file object: .*Odd object"
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(expected, match=text) as raised:
            add(odd, print)
        assert raised.value.__cause__ is None
    for remove in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(expected, match=text):
            remove(odd)


@pytest.mark.parametrize("number", [-1, -(2**31) - 1, -(2**70)])
async def test_a_negative_number(loop: Loop, number: int) -> None:
    for call in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError, match=f"Invalid file descriptor: {number}$"):
            call(number, print)
    for remove in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(ValueError, match=f"Invalid file descriptor: {number}$"):
            remove(number)


@pytest.mark.parametrize("number", [2**31, 2**70])
async def test_a_number_that_no_descriptor_has(loop: Loop, number: int) -> None:
    for call in (loop.add_reader, loop.add_writer):
        with pytest.raises(OverflowError, match="too large to convert to C int"):
            call(number, print)
    assert loop.remove_reader(number) is False
    assert loop.remove_writer(number) is False


async def test_a_descriptor_of_a_transport_is_refused(loop: Loop, pair: Pair) -> None:
    ours, _ = pair
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    for call in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError, match="is used by transport"):
            call(ours.fileno(), print)
    for remove in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(RuntimeError, match="is used by transport"):
            remove(ours.fileno())
    transport.abort()
    await next_turns(3)


async def test_many_descriptors(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(100)]
    seen: set[int] = set()
    complete = asyncio.Event()

    def read(number: int) -> None:
        seen.add(number)
        loop.remove_reader(pairs[number][0])
        if len(seen) == len(pairs):
            complete.set()

    for number, (ours, _) in enumerate(pairs):
        loop.add_reader(ours, read, number)
    for _, peer in pairs:
        peer.send(b"x")
    await complete.wait()
    for one, two in pairs:
        one.close()
        two.close()
