"""Pipe transports: reading, writing, hang-up, terminals, and who closes what, how often."""

import asyncio
import contextvars
import errno
import gc
import logging
import os
import pathlib
import socket
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import loops
import pytest
from loops import Factory
from recorder import Recorder, next_turns

Loop = asyncio.AbstractEventLoop
Child = Callable[..., Any]

# Iterations within which even a busy loop has looked at its descriptors.
MORE_THAN_A_LOOK = 40

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)

LARGE = b"0123456789abcdef" * (4 << 16)


class CountedFile:
    """A file object that counts its `close()` calls."""

    def __init__(self, fd: int) -> None:
        self.file = open(fd, "wb", buffering=0)
        self.closes = 0

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        self.closes += 1
        self.file.close()


async def reading(loop: Loop) -> tuple[Any, Recorder, int]:
    """A read transport, its protocol, and the descriptor of the writing end."""
    read_fd, write_fd = os.pipe()
    file = open(read_fd, "rb", buffering=0)
    transport, protocol = await loop.connect_read_pipe(Recorder, file)
    return transport, protocol, write_fd


async def writing(loop: Loop) -> tuple[Any, Recorder, int]:
    """A write transport, its protocol, and the non-blocking descriptor of the reading end."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    file = open(write_fd, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(Recorder, file)
    return transport, protocol, read_fd


async def drain(loop: Loop, fd: int) -> bytes:
    """All bytes that come out of the non-blocking descriptor `fd` until its end; closes it."""
    received = bytearray()
    done = loop.create_future()

    def read() -> None:
        try:
            chunk = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        received.extend(chunk)
        if not chunk:
            loop.remove_reader(fd)
            os.close(fd)
            done.set_result(bytes(received))

    loop.add_reader(fd, read)
    return await done


async def test_reading_to_the_end(loop: Loop) -> None:
    transport, protocol, write_fd = await reading(loop)
    pipe = transport.get_extra_info("pipe")
    assert isinstance(transport, asyncio.ReadTransport)
    assert transport.get_protocol() is protocol
    assert transport.get_extra_info("nothing", 7) == 7
    os.write(write_fd, b"hello")
    assert await protocol.wait_received(5) == b"hello"
    assert not pipe.closed
    os.close(write_fd)
    assert await protocol.lost is None
    await next_turns()
    assert protocol.events == ["made", "data", "eof", "lost"]
    assert pipe.closed
    assert transport.get_extra_info("pipe") is pipe
    assert transport.is_closing() and not transport.is_reading()
    transport.close()
    assert transport.get_protocol() is None


async def test_pausing(loop: Loop) -> None:
    transport, protocol, write_fd = await reading(loop)
    assert transport.is_reading()
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    os.write(write_fd, b"later")
    os.close(write_fd)
    await next_turns(20)
    assert protocol.events == ["made"]
    transport.resume_reading()
    transport.resume_reading()
    assert await protocol.lost is None
    assert protocol.events == ["made", "data", "eof", "lost"]
    transport.pause_reading()
    transport.resume_reading()


async def test_pausing_in_data_received(loop: Loop) -> None:
    class Pauses(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    read_fd, write_fd = os.pipe()
    transport, protocol = await loop.connect_read_pipe(Pauses, open(read_fd, "rb", buffering=0))
    os.write(write_fd, b"one")
    await protocol.wait_received(3)
    os.write(write_fd, b"two")
    os.close(write_fd)
    await next_turns(20)
    assert protocol.received == b"one"
    transport.resume_reading()
    await protocol.wait_received(6)
    transport.resume_reading()
    await protocol.lost


async def test_closing_the_reading_end(loop: Loop) -> None:
    transport, protocol, write_fd = await reading(loop)
    os.write(write_fd, b"unread")
    transport.close()
    transport.close()
    assert protocol.events == ["made"]
    assert await protocol.lost is None
    await next_turns()
    assert protocol.events == ["made", "lost"]
    with pytest.raises(BrokenPipeError):
        os.write(write_fd, b"x")
    os.close(write_fd)


async def test_an_error_in_data_received_does_not_end_reading(
    loop: Loop, errors: list[dict[str, Any]]
) -> None:
    class Raises(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise ZeroDivisionError

    read_fd, write_fd = os.pipe()
    _, protocol = await loop.connect_read_pipe(Raises, open(read_fd, "rb", buffering=0))
    os.write(write_fd, b"bad")
    await protocol.wait_received(3)
    os.write(write_fd, b"good")
    await protocol.wait_received(7)
    os.close(write_fd)
    await protocol.lost
    assert isinstance(errors.pop()["exception"], ZeroDivisionError)


async def test_callbacks_run_in_the_context_of_the_connecting(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    seen = []

    class Looks(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            seen.append(variable.get())

    async def connect() -> tuple[Recorder, int]:
        variable.set("inside")
        read_fd, write_fd = os.pipe()
        _, protocol = await loop.connect_read_pipe(Looks, open(read_fd, "rb", buffering=0))
        return protocol, write_fd

    protocol, write_fd = await asyncio.create_task(connect())
    os.write(write_fd, b"x")
    os.close(write_fd)
    await protocol.lost
    assert seen == ["inside"]


async def test_writing(loop: Loop) -> None:
    transport, protocol, read_fd = await writing(loop)
    assert isinstance(transport, asyncio.WriteTransport)
    # asyncio's own is a whole Transport whose reading half refuses.
    assert isinstance(transport, asyncio.Transport)
    for method in (transport.is_reading, transport.pause_reading, transport.resume_reading):
        with pytest.raises(NotImplementedError):
            method()
    assert transport.can_write_eof()
    transport.write(b"bytes ")
    transport.write(bytearray(b"bytearray "))
    transport.write(memoryview(b"a memoryview")[2:])
    transport.write(b"")
    transport.writelines([b" some", bytearray(b" lines")])
    pipe = transport.get_extra_info("pipe")
    transport.write_eof()
    assert transport.is_closing()
    assert await drain(loop, read_fd) == b"bytes bytearray memoryview some lines"
    assert await protocol.lost is None
    await next_turns()
    assert pipe.closed
    assert protocol.events == ["made", "lost"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_close_writes_what_is_queued(loop: Loop, kind: Any) -> None:
    transport, protocol, read_fd = await writing(loop)
    transport.write(kind(LARGE))
    assert transport.get_write_buffer_size() > 0
    transport.write(b"end")
    transport.close()
    assert await drain(loop, read_fd) == LARGE + b"end"
    assert await protocol.lost is None
    assert protocol.events == ["made", "pause", "resume", "lost"]


async def test_flow_control(loop: Loop) -> None:
    transport, protocol, read_fd = await writing(loop)
    transport.set_write_buffer_limits(high=1000, low=100)
    assert transport.get_write_buffer_limits() == (100, 1000)
    with pytest.raises(ValueError):
        transport.set_write_buffer_limits(high=1, low=2)
    while transport.get_write_buffer_size() == 0:
        transport.write(b"x" * 4096)
    transport.write(b"x" * 4096)
    assert protocol.events == ["made", "pause"]
    transport.close()
    received = await drain(loop, read_fd)
    await protocol.lost
    assert set(received) == set(b"x")
    assert protocol.events == ["made", "pause", "resume", "lost"]


async def test_abort_drops_what_is_queued(loop: Loop) -> None:
    transport, protocol, read_fd = await writing(loop)
    transport.write(LARGE)
    transport.abort()
    assert transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    assert await protocol.lost is None
    assert len(await drain(loop, read_fd)) < len(LARGE)


async def test_the_reader_goes_away(loop: Loop) -> None:
    transport, protocol, read_fd = await writing(loop)
    os.close(read_fd)
    assert await protocol.lost is None
    assert transport.is_closing()


async def test_the_reader_goes_away_with_bytes_queued(loop: Loop) -> None:
    transport, protocol, read_fd = await writing(loop)
    transport.write(LARGE)
    os.close(read_fd)
    assert isinstance(await protocol.lost, BrokenPipeError)
    assert transport.get_write_buffer_size() == 0


async def test_the_reader_goes_away_while_closing(loop: Loop) -> None:
    transport, protocol, read_fd = await writing(loop)
    transport.write(LARGE)
    transport.close()
    await next_turns(5)
    assert not protocol.lost.done()
    os.close(read_fd)
    assert isinstance(await protocol.lost, BrokenPipeError)


async def test_a_write_that_fails_ends_the_transport(loop: Loop) -> None:
    transport, protocol, read_fd = await writing(loop)
    os.close(read_fd)
    transport.write(b"x")
    assert transport.is_closing()
    assert isinstance(await protocol.lost, BrokenPipeError)
    await next_turns(5)
    assert protocol.events == ["made", "lost:BrokenPipeError"]


async def test_writes_after_the_end_are_dropped(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    transport, protocol, read_fd = await writing(loop)
    transport.close()
    with caplog.at_level(logging.WARNING, "asyncio"):
        for _ in range(5):
            transport.write(b"x")
        assert caplog.records == []
        transport.write(b"x")
        assert "pipe closed by peer" in caplog.text
    assert await drain(loop, read_fd) == b""
    await protocol.lost


@pytest.mark.parametrize("what", ["connect_read_pipe", "connect_write_pipe"])
async def test_regular_files_are_refused(loop: Loop, what: str) -> None:
    with tempfile.TemporaryFile() as file:
        with pytest.raises(ValueError, match="[Pp]ipe transport is"):
            await getattr(loop, what)(Recorder, file)
        assert not file.closed
    await next_turns()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("what", ["connect_read_pipe", "connect_write_pipe"])
async def test_what_is_no_protocol_gets_no_pipe(loop: Loop, what: str) -> None:
    ends = [open(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]
    ours, other = ends if what == "connect_read_pipe" else reversed(ends)
    with other, pytest.raises(AttributeError, match="'connection_made'"):
        await getattr(loop, what)(lambda: None, ours)
    gc.collect()
    assert ours.closed


async def test_sockets_are_pipes_too(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    read_transport, reader = await loop.connect_read_pipe(Recorder, ours)
    write_transport, writer = await loop.connect_write_pipe(Recorder, peer)
    write_transport.write(b"through a socket")
    assert await reader.wait_received(16) == b"through a socket"
    write_transport.close()
    assert await writer.lost is None
    assert await reader.lost is None
    await next_turns()
    assert ours.fileno() == peer.fileno() == -1
    assert read_transport.is_closing()


async def test_the_peer_socket_goes_away(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    _, protocol = await loop.connect_write_pipe(Recorder, ours)
    peer.close()
    assert await protocol.lost is None


async def test_one_socket_both_ways(loop: Loop) -> None:
    """What the peer sends is for the reader, and no end for the writer."""
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    write_transport, writer = await loop.connect_write_pipe(Recorder, ours)
    _, reader = await loop.connect_read_pipe(Recorder, ours)
    with peer:
        for question, answer in ((b"one", b"two"), (b"three", b"four")):
            await loop.sock_sendall(peer, question)
            reader.received.clear()
            assert await reader.wait_received(len(question)) == question
            assert not write_transport.is_closing()
            write_transport.write(answer)
            assert await loop.sock_recv(peer, 100) == answer
    assert await reader.lost is None
    write_transport.close()
    await writer.lost


@only_ours
async def test_data_that_nobody_has_read_is_no_hang_up(loop: Loop) -> None:
    """On asyncio it ends the writer, unless a reader has taken its place."""
    ours, peer = socket.socketpair()
    ours_too = ours.dup()
    transport, protocol = await loop.connect_write_pipe(Recorder, ours)
    peer.setblocking(False)
    with ours_too:
        peer.send(b"unread")
        await next_turns(MORE_THAN_A_LOOK)
        transport.write(b"answer")
        assert await loop.sock_recv(peer, 100) == b"answer"
        assert ours_too.recv(100) == b"unread"
        # The end with data before it: who reads that may still answer.
        peer.send(b"last")
        peer.shutdown(socket.SHUT_WR)
        await next_turns(MORE_THAN_A_LOOK)
        transport.write(b"bye")
        assert await loop.sock_recv(peer, 100) == b"bye"
        assert ours_too.recv(100) == b"last"
        peer.close()
        transport.write(b"nobody")
        assert isinstance(await protocol.lost, BrokenPipeError)


@only_ours
async def test_the_peer_goes_away_after_its_data_was_read(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    with ours.dup() as ours_too:
        _, protocol = await loop.connect_write_pipe(Recorder, ours)
        peer.send(b"read")
        await next_turns(MORE_THAN_A_LOOK)
        assert ours_too.recv(100) == b"read"
        peer.close()
        assert await protocol.lost is None


@only_ours
async def test_unread_data_does_not_keep_the_loop_busy(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await loop.connect_write_pipe(Recorder, ours)
        peer.send(b"unread")
        peer.shutdown(socket.SHUT_WR)
        await next_turns(MORE_THAN_A_LOOK)
        started_s = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - started_s < 0.1
        transport.abort()
        assert await protocol.lost is None


async def test_named_pipes(loop: Loop, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read_file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    write_file = open(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)
    _, reader = await loop.connect_read_pipe(Recorder, read_file)
    transport, writer = await loop.connect_write_pipe(Recorder, write_file)
    transport.write(LARGE)
    transport.close()
    assert await reader.wait_received(len(LARGE)) == LARGE
    assert await reader.lost is None
    assert await writer.lost is None


async def test_a_terminal_in_both_directions(loop: Loop) -> None:
    """One file, and so one descriptor, for both transports."""
    primary, secondary = os.openpty()
    file = open(primary, "r+b", buffering=0)
    _, reader = await loop.connect_read_pipe(Recorder, file)
    transport, writer = await loop.connect_write_pipe(Recorder, file)
    transport.write(b"question\n")
    assert os.read(secondary, 100) == b"question\n"
    os.write(secondary, b"answer\n")
    received = await reader.wait_received(len(b"question\r\nanswer\r\n"))
    assert received == b"question\r\nanswer\r\n"
    transport.close()
    assert await writer.lost is None
    assert not reader.lost.done()
    # The two transports share the file, so the end of one has closed it for both.
    reader.transport.close()
    assert await reader.lost is None
    os.close(secondary)


async def test_a_terminal_hangs_up(loop: Loop) -> None:
    primary, secondary = os.openpty()
    _, protocol = await loop.connect_read_pipe(Recorder, open(primary, "rb", buffering=0))
    os.write(secondary, b"last words\n")
    await protocol.wait_received(12)
    os.close(secondary)
    error = await protocol.lost
    assert isinstance(error, OSError) and error.errno == errno.EIO
    assert protocol.events[-1] == "lost:OSError"


async def test_a_cancelled_connect_closes_the_pipe(loop: Loop) -> None:
    read_fd, write_fd = os.pipe()
    file = open(read_fd, "rb", buffering=0)
    protocols: list[Recorder] = []

    def make() -> Recorder:
        protocols.append(Recorder())
        return protocols[0]

    task = loop.create_task(loop.connect_read_pipe(make, file))
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    await protocols[0].lost
    await next_turns()
    assert file.closed
    os.close(write_fd)


@pytest.mark.parametrize("end", ["close", "abort", "hang up"])
async def test_closed_exactly_once(loop: Loop, end: str) -> None:
    """Whoever gets the number next keeps it."""
    stranger, other = os.pipe()
    read_fd, write_fd = os.pipe()
    file = CountedFile(write_fd)
    transport, protocol = await loop.connect_write_pipe(Recorder, file)
    if end == "hang up":
        os.close(read_fd)
    else:
        getattr(transport, end)()
    await protocol.lost
    await next_turns()
    assert file.closes == 1
    os.dup2(other, write_fd)
    transport.close()
    del transport, protocol, file
    gc.collect()
    await next_turns(5)
    os.write(write_fd, b"still mine")
    assert os.read(stranger, 100) == b"still mine"
    for fd in [stranger, other, write_fd] + ([] if end == "hang up" else [read_fd]):
        os.close(fd)


def test_a_transport_that_nobody_closed(loop_factory: Factory) -> None:
    """With its loop closed and forgotten, it is closed, with a warning."""
    loop = loop_factory()
    read_fd, write_fd = os.pipe()
    transport, _ = loop.run_until_complete(
        loop.connect_write_pipe(asyncio.BaseProtocol, open(write_fd, "wb", buffering=0))
    )
    loop.close()
    assert "open" in repr(transport)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, _
        gc.collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)
    assert os.read(read_fd, 1) == b""
    os.close(read_fd)


def test_closing_on_a_closed_loop(loop_factory: Factory, loop_name: str) -> None:
    """asyncio raises and leaves the pipe open; here it is closed at once."""
    loop = loop_factory()
    read_fd, write_fd = os.pipe()
    file = open(write_fd, "wb", buffering=0)
    transport, _ = loop.run_until_complete(loop.connect_write_pipe(asyncio.BaseProtocol, file))
    loop.close()
    if loop_name == "asyncio":
        with pytest.raises(RuntimeError):
            transport.close()
        file.close()
        transport._pipe = None  # type: ignore[attr-defined]
    else:
        transport.close()
        assert file.closed
    assert os.read(read_fd, 1) == b""
    os.close(read_fd)


def close_in_a_fork(loop_factory: Factory) -> None:
    """The child closes its copy of a transport; the parent's is still watched."""
    loop = loop_factory()
    read_fd, write_fd = os.pipe()
    file = open(write_fd, "wb", buffering=0)

    async def main() -> None:
        transport, protocol = await loop.connect_write_pipe(Recorder, file)
        pid = os.fork()
        if pid == 0:
            transport.close()
            os._exit(0 if file.closed else 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0, "the child's copy is closed at once"
        assert not file.closed
        os.close(read_fd)
        assert await protocol.lost is None

    loop.run_until_complete(main())
    loop.close()
    print("told")


def test_closing_in_a_fork_does_not_concern_the_parent(loop_name: str, in_child: Child) -> None:
    if loop_name == "oxloop":  # asyncio would unhook the parent's descriptor
        assert in_child(close_in_a_fork).stdout == "told\n"
