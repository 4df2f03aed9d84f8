"""What CPython's tests check by private attributes of asyncio's loop, checked from outside.

The conformance run leaves such tests out (rule R1 of tests/conformance/run_cpython_tests.py); the
behaviour that they protect is here, unless the test file of its subject has it already.
"""

import asyncio
import contextvars
import os
import resource
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder, next_turns
from tls_peer import client_context, server_context

Loop = asyncio.AbstractEventLoop

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")
shape: contextvars.ContextVar[str] = contextvars.ContextVar("shape", default="none")

plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class InContext(asyncio.Protocol):
    """Writes down the context variables that each callback sees; sets one in a task."""

    def __init__(self, lost: asyncio.Future[None]) -> None:
        self.lost = lost
        self.seen: list[tuple[str, str, str]] = []

    def note(self, where: str) -> None:
        self.seen.append((where, color.get(), shape.get()))

    def connection_made(self, transport: Any) -> None:
        self.note("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.note("data")
        shape.set("round")
        self.transport.pause_reading()
        self.answering = asyncio.ensure_future(self.answer())

    async def answer(self) -> None:
        self.note("task")
        color.set("changed by the task")
        self.transport.write(b"answer")
        await next_turns(2)
        self.transport.resume_reading()

    def eof_received(self) -> None:
        self.note("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("lost")
        self.lost.set_result(None)


@plain_and_tls
async def test_a_connection_has_a_context_of_its_own(loop: Loop, loop_name: str, tls: bool) -> None:
    """What its task sets is the task's own, what its callback sets is the connection's."""
    if loop_name == "asyncio" and sys.version_info < (3, 15):
        pytest.skip("asyncio gives connections their contexts since 3.15")
    connections: list[InContext] = []

    def factory() -> InContext:
        connections.append(InContext(loop.create_future()))
        return connections[-1]

    color.set("the server's")
    context = server_context() if tls else None
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context)
    color.set("set later")
    for _ in range(2):
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=client_context() if tls else None,
            server_hostname="localhost" if tls else None,
        )
        writer.write(b"question")
        assert await reader.readexactly(6) == b"answer"
        writer.close()
        await writer.wait_closed()
    server.close()
    for connection in connections:
        await connection.lost
        assert connection.seen == [
            ("made", "the server's", "none"),
            ("data", "the server's", "none"),
            ("task", "the server's", "round"),
            ("eof", "the server's", "round"),
            ("lost", "the server's", "round"),
        ]


@pytest.mark.parametrize("paused", [False, True])
async def test_all_that_came_before_close_notify_is_received(loop: Loop, paused: bool) -> None:
    data = bytes(range(256)) * (8 << 10)
    received: asyncio.Future[Recorder] = loop.create_future()

    class Slow(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if paused:
                transport.pause_reading()
            received.set_result(self)

    server = await loop.create_server(Slow, "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()

    def client() -> None:
        with socket.create_connection(address) as sock:
            with client_context().wrap_socket(sock, server_hostname="localhost") as wrapped:
                wrapped.sendall(data)
                try:
                    wrapped.unwrap().close()
                except ssl.SSLError:
                    pass  # The server need not answer.

    sending = asyncio.ensure_future(asyncio.to_thread(client))
    protocol = await received
    if paused:
        await next_turns(20)
        assert not protocol.received
        protocol.transport.resume_reading()
    assert await protocol.wait_received(len(data)) == data
    assert await protocol.lost is None
    await sending
    assert bytes(protocol.received) == data
    server.close()


async def test_what_was_written_before_close_arrives_over_tls(loop: Loop) -> None:
    data = bytes(range(256)) * (16 << 10)
    served = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        writer.write(data)
        writer.close()
        await writer.wait_closed()
        served.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
    )
    writer.write(b"x")
    assert await reader.read() == b"x" + data
    writer.close()
    await writer.wait_closed()
    await served
    server.close()


async def test_without_fallback_no_file_over_tls(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    accepted: asyncio.Future[Recorder] = loop.create_future()

    class Accepted(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            accepted.set_result(self)

    server = await loop.create_server(Accepted, "127.0.0.1", 0, ssl=server_context())
    transport, protocol = await loop.create_connection(
        Recorder,
        *server.sockets[0].getsockname(),
        ssl=client_context(),
        server_hostname="localhost",
    )
    with (tmp_path / "file").open("rb") as file:
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await loop.sendfile(transport, file, fallback=False)
        assert await loop.sendfile(transport, file) == 4
    assert await (await accepted).wait_received(4) == b"data"
    transport.close()
    await protocol.lost
    await (await accepted).lost
    server.close()


async def test_output_of_a_process_beyond_the_limit_pauses_its_pipe(loop: Loop) -> None:
    size = 1 << 20
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import sys; sys.stdout.write('x' * {size})",
        stdout=asyncio.subprocess.PIPE,
        limit=10,
    )
    pipe: Any = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        while pipe.is_reading():
            await asyncio.sleep(0.001)
    output, _ = await process.communicate()
    assert output == b"x" * size


async def test_a_process_is_reaped_when_its_end_is_told(loop: Loop) -> None:
    """Until then its number is its own, and a signal cannot go to another process."""
    if type(loop).__module__.startswith("asyncio") and sys.version_info < (3, 13):
        pytest.skip("asyncio before 3.13 may reap it at once, in a thread")
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=asyncio.subprocess.PIPE)
    process.kill()
    # Blocks the loop until the process has ended, and leaves its status.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.returncode is None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG)


async def test_a_handler_removed_after_its_signal_does_not_run(loop: Loop) -> None:
    calls: list[str] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        loop.add_signal_handler(signal.SIGUSR1, calls.append, "the removed one")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        assert not loop.remove_signal_handler(signal.SIGUSR1)
        await next_turns(5)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == []


async def test_a_removed_sigint_handler_leaves_pythons(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGINT, print)
        assert loop.remove_signal_handler(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


async def test_a_path_that_cannot_be_bound_leaves_no_socket(loop: Loop, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError):
        await loop.create_unix_server(asyncio.Protocol, tmp_path / "nowhere" / "socket")
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("delay", [1e-6, 1e-5, 1e-4, 1e-3, 0.1 + 1e-6])
async def test_a_short_timeout_is_one_wait(loop: Loop, delay: float) -> None:
    """A timeout is not rounded down to nothing, which would make the loop spin."""
    rounds = 5
    before = resource.getrusage(resource.RUSAGE_THREAD)
    for _ in range(rounds):
        await asyncio.sleep(delay)
    after = resource.getrusage(resource.RUSAGE_THREAD)
    assert after.ru_nvcsw - before.ru_nvcsw <= 4 * rounds
    # Spinning would use all of the time.
    assert after.ru_utime - before.ru_utime < max(0.05, delay * rounds / 2)


def test_stop_before_run_forever_makes_one_iteration(loop: Loop) -> None:
    calls: list[int] = []

    def again() -> None:
        calls.append(1)
        loop.call_soon(again)

    loop.call_soon(again)
    loop.stop()
    loop.run_forever()
    assert calls == [1]
    loop.stop()
    loop.run_forever()
    assert calls == [1, 1]


def test_a_callback_that_stops_the_loop_lets_the_others_of_its_turn_run(loop: Loop) -> None:
    """Also one whose descriptor is ready in the same turn."""
    ours, theirs = socket.socketpair()
    calls: list[str] = []
    loop.add_reader(ours, calls.append, "reader")
    theirs.send(b"x")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.remove_reader(ours)
    assert calls == ["reader"]
    ours.close()
    theirs.close()


async def test_an_executor_of_another_kind_is_refused(loop: Loop) -> None:
    with pytest.raises(TypeError, match="ThreadPoolExecutor"):
        loop.set_default_executor(object())  # type: ignore[arg-type]
    assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
