"""Child processes: what they say, how they end, which options they get, what is left of them."""

import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from loops import Factory

Loop = asyncio.AbstractEventLoop
Child = Callable[..., Any]

PIPE = subprocess.PIPE
LARGE = b"0123456789abcdef" * (4 << 16)


class Recorder(asyncio.SubprocessProtocol):
    """Writes down what happens to a process and its pipes."""

    transport: Any

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received: dict[int, bytes] = {}
        self.lost: asyncio.Future[BaseException | None] = asyncio.Future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.received[fd] = self.received.get(fd, b"") + data

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.events.append(f"pipe {fd}")

    def process_exited(self) -> None:
        self.events.append("exited")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


async def run(*args: Any, **kwargs: Any) -> tuple[int | None, bytes]:
    """Run a program to its end; its status and what it wrote to stdout."""
    process = await asyncio.create_subprocess_exec(*args, stdout=PIPE, **kwargs)
    output, _ = await process.communicate()
    return process.returncode, output


def is_older_asyncio(loop_name: str) -> bool:
    """Whether the loop leaves waiting to a thread that reaps at once."""
    return loop_name == "asyncio" and sys.version_info < (3, 12)


async def test_communicate(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "cat; echo oops >&2; exit 7", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.returncode is None
    assert await process.communicate(LARGE) == (LARGE, b"oops\n")
    assert process.returncode == 7
    assert await process.wait() == 7


async def test_a_line_for_the_shell(loop: Loop) -> None:
    process = await asyncio.create_subprocess_shell("echo $((6 * 7)) | cat", stdout=PIPE)
    assert await process.communicate() == (b"42\n", None)
    assert process.returncode == 0


async def test_streams(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    for number in range(20):
        process.stdin.write(b"%d\n" % number)
        await process.stdin.drain()
        assert await process.stdout.readline() == b"%d\n" % number
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_what_a_protocol_is_told(loop: Loop) -> None:
    transport, protocol = await loop.subprocess_exec(
        Recorder, "sh", "-c", "read line; echo $line; echo two >&2"
    )
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert transport.get_protocol() is protocol
    process = transport.get_extra_info("subprocess")
    assert transport.get_pid() == process.pid
    assert transport.get_returncode() is None
    assert transport.get_pipe_transport(3) is None
    transport.get_pipe_transport(0).write(b"one\n")
    assert await protocol.lost is None
    assert protocol.received == {1: b"one\n", 2: b"two\n"}
    assert protocol.events[0] == "made" and protocol.events[-1] == "lost"
    assert sorted(protocol.events[1:-1]) == ["exited", "pipe 0", "pipe 1", "pipe 2"]
    assert transport.get_returncode() == process.returncode == 0
    transport.close()
    assert transport.is_closing()


async def test_without_pipes(loop: Loop) -> None:
    transport, protocol = await loop.subprocess_exec(
        Recorder, "true", stdin=None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert await protocol.lost is None
    assert protocol.events == ["made", "exited", "lost"]
    transport.close()


@pytest.mark.parametrize("how", ["kill", "terminate", "send_signal"])
async def test_signals(loop: Loop, how: str) -> None:
    transport, protocol = await loop.subprocess_exec(Recorder, "cat")
    expected = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}.get(how, signal.SIGUSR1)
    getattr(transport, how)(*[expected][: how == "send_signal"])
    assert await protocol.lost is None
    assert transport.get_returncode() == -expected
    with pytest.raises(ProcessLookupError):
        getattr(transport, how)(*[expected][: how == "send_signal"])
    transport.close()


async def test_the_status_of_a_killed_process(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert process.returncode == -signal.SIGKILL


async def test_a_signal_to_a_process_that_has_just_ended(loop: Loop, loop_name: str) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    assert await process.stdout.read() == b""
    # Ended or about to, and not reaped: no stranger can be hit, and nothing is raised.
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(0)
    code = await process.wait()
    # On older asyncio, sending takes the status away from the loop.
    assert code == 0 or (loop_name == "asyncio" and code == 255)


async def test_options_of_popen(loop: Loop, tmp_path: pathlib.Path) -> None:
    code, output = await run("pwd", cwd=tmp_path)
    assert (code, output) == (0, os.fsencode(tmp_path.resolve()) + b"\n")
    assert await run("/usr/bin/env", env={"ONE": "1"}) == (0, b"ONE=1\n")
    assert await run("not sh", "-c", "umask", executable="/bin/sh", umask=0o27) == (0, b"0027\n")
    read_fd, write_fd = os.pipe()
    done = await run("sh", "-c", f"echo passed >/dev/fd/{write_fd}", pass_fds=[write_fd])
    assert done == (0, b"") and os.read(read_fd, 100) == b"passed\n"
    os.close(read_fd)
    os.close(write_fd)
    show = "import os; print(os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid())"
    assert await run(sys.executable, "-c", show) == (0, b"False False\n")
    assert await run(sys.executable, "-c", show, process_group=0) == (0, b"True False\n")
    assert await run(sys.executable, "-c", show, start_new_session=True) == (0, b"True True\n")
    chdir = await run("pwd", preexec_fn=lambda: os.chdir("/"))
    assert chdir == (0, b"/\n")
    process = await asyncio.create_subprocess_shell(
        "echo out; echo err >&2", stdout=PIPE, stderr=subprocess.STDOUT
    )
    assert await process.communicate() == (b"out\nerr\n", None)


async def test_popen_itself_is_used(loop: Loop) -> None:
    with mock.patch("subprocess.Popen", wraps=subprocess.Popen) as popen:
        assert await run("true") == (0, b"")
    popen.assert_called_once()
    assert popen.call_args.args == (("true",),)


@pytest.mark.parametrize(
    "bad",
    [
        {"universal_newlines": True},
        {"bufsize": 1},
        {"text": True},
        {"encoding": "utf-8"},
        {"errors": "strict"},
    ],
    ids=lambda bad: next(iter(bad)),
)
async def test_text_is_refused(loop: Loop, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        await loop.subprocess_exec(Recorder, "true", **bad)
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        await loop.subprocess_shell(Recorder, "true", **bad)
    with pytest.raises(ValueError, match="shell must be False"):
        await loop.subprocess_exec(Recorder, "true", shell=True)
    with pytest.raises(ValueError, match="shell must be True"):
        await loop.subprocess_shell(Recorder, "true", shell=False)
    with pytest.raises(ValueError, match="cmd must be a string"):
        await loop.subprocess_shell(Recorder, ["true"])  # type: ignore[arg-type]


async def test_errors_of_popen(loop: Loop, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE)
    with pytest.raises(NotADirectoryError):
        await asyncio.create_subprocess_exec("true", cwd="/dev/null")
    with pytest.raises(PermissionError):
        await asyncio.create_subprocess_exec(tmp_path)
    with pytest.raises(subprocess.SubprocessError):
        await asyncio.create_subprocess_exec("true", preexec_fn=lambda: 1 / 0)
    with pytest.raises(TypeError):
        await asyncio.create_subprocess_exec("true", no_such_option=1)


async def test_a_cancelled_start_leaves_no_process(loop: Loop) -> None:
    started = []
    popen = subprocess.Popen

    def start(*args: Any, **kwargs: Any) -> Any:
        started.append(popen(*args, **kwargs))
        return started[0]

    with mock.patch("subprocess.Popen", start):
        task = loop.create_task(
            asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        )
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
    process = started[0]
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, 0)


async def test_close_kills(loop: Loop) -> None:
    transport, protocol = await loop.subprocess_exec(Recorder, "cat")
    transport.close()
    transport.close()
    assert await protocol.lost is None
    assert transport.get_returncode() == -signal.SIGKILL
    assert protocol.events[-1] == "lost" and "exited" in protocol.events


async def test_pipes_outlive_the_process(loop: Loop) -> None:
    """A grandchild holds stdout; from 3.14 on wait() does not care."""
    command = "sleep 1000 & echo $!; read line"
    process = await asyncio.create_subprocess_shell(command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    grandchild = int(await process.stdout.readline())
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.sleep(0)
    process.stdin.write(b"\n")
    if sys.version_info >= (3, 14):
        assert await waiting == 0
    else:
        while process.returncode is None:
            await asyncio.sleep(0)
        assert not waiting.done()
    os.kill(grandchild, signal.SIGKILL)
    assert await process.stdout.read() == b""
    assert await waiting == 0


async def test_the_status_was_taken_away(
    loop: Loop, loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if is_older_asyncio(loop_name):
        pytest.skip("its thread waits at the same time as the test")
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    with caplog.at_level(logging.WARNING, "asyncio"):
        assert await process.wait() == 255
    (message,) = caplog.messages
    assert f"child process pid {process.pid}" in message
    assert "will report returncode 255" in message


async def test_popen_was_waited_for(loop: Loop, loop_name: str) -> None:
    """Popen knows the status then, so it is told; asyncio reports 255."""
    if is_older_asyncio(loop_name):
        pytest.skip("its thread waits at the same time as the test")
    transport, protocol = await loop.subprocess_exec(Recorder, "sh", "-c", "read line; exit 3")
    process = transport.get_extra_info("subprocess")
    os.write(process.stdin.fileno(), b"\n")
    assert process.wait() == 3
    await protocol.lost
    assert transport.get_returncode() == (3 if loop_name == "oxloop" else 255)
    transport.close()


async def test_without_pidfds(loop: Loop, loop_name: str, monkeypatch: Any) -> None:
    """Where a filter forbids pidfd_open, a thread waits."""
    if loop_name == "asyncio":
        pytest.skip("it decides once per process")

    def forbidden(pid: int, flags: int = 0) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    assert await run("sh", "-c", "echo fine; exit 5") == (5, b"fine\n")
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    process.terminate()
    assert await process.wait() == -signal.SIGTERM


async def test_sigchld_is_the_users(loop: Loop, loop_name: str) -> None:
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGCHLD, told.set)
    try:
        assert await run("sh", "-c", "exit 4") == (4, b"")
        await told.wait()
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)


def ignored_children(loop_factory: Factory) -> None:
    """The kernel reaps the children of a process that ignores SIGCHLD."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        assert process.stdin is not None
        process.stdin.close()
        print(await process.wait())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_ignored_children(in_child: Child) -> None:
    done = in_child(ignored_children)
    assert done.stdout == "255\n"
    assert "will report returncode 255" in done.stderr


def test_several_loops_in_threads(loop_factory: Factory) -> None:
    results: list[Any] = []

    async def main(number: int) -> None:
        runs = (run("sh", "-c", f"echo {number}.{i}; exit {i}") for i in range(8))
        results.append((number, await asyncio.gather(*runs)))

    def work(number: int) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [
        (number, [(i, f"{number}.{i}\n".encode()) for i in range(8)]) for number in range(4)
    ]


def test_a_loop_closed_before_its_process_ends(loop_factory: Factory, loop_name: str) -> None:
    """The process is killed with its transport."""
    if loop_name == "asyncio":
        pytest.skip("its older versions cannot close pipes of a closed loop and leave the process")
    loop = loop_factory()
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
    )
    process = transport.get_extra_info("subprocess")
    before = descriptors()
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, _, loop
        gc.collect()
    assert any("ProcessTransport" in str(warning.message) for warning in caught)
    assert process.stdin.closed and process.stdout.closed and process.stderr.closed
    assert process.wait() == -signal.SIGKILL
    # The pipes, the pidfd, and what the loop itself held.
    assert len(before - descriptors()) >= 4 and descriptors() < before


def descriptors() -> set[str]:
    """The numbers of the open descriptors, but that of the listing itself."""
    listed = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        return set(os.listdir(listed)) - {str(listed)}
    finally:
        os.close(listed)


def many_processes(loop_factory: Factory) -> None:
    """300 starts, of which a third fail in one way or another, and some are cancelled."""

    async def start(number: int) -> Any:
        match number % 6:
            case 0:
                return await run("/no/such/program", stdin=PIPE, stderr=PIPE)
            case 1:
                return await run("true", cwd="/dev/null/x", stdin=PIPE)
            case 2:
                task = asyncio.ensure_future(run("cat", stdin=PIPE))
                asyncio.get_running_loop().call_soon(task.cancel)
                return await task
            case 3:
                process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
                process.kill()
                return await process.wait()
            case _:
                return await run("sh", "-c", f"echo {number}; exit {number % 6}")

    async def main() -> None:
        before: set[str] = set()
        for first in range(-30, 300, 30):
            numbers = range(first, first + 30)
            starts = (start(number) for number in numbers)
            results = await asyncio.gather(*starts, return_exceptions=True)
            for number, result in zip(numbers, results):
                match number % 6:
                    case 0:
                        assert isinstance(result, FileNotFoundError), result
                    case 1:
                        assert isinstance(result, NotADirectoryError), result
                    case 2:
                        assert isinstance(result, asyncio.CancelledError), result
                    case 3:
                        assert result == -signal.SIGKILL, result
                    case kind:
                        assert result == (kind, b"%d\n" % number), result
            del results
            gc.collect()
            # The first round is a warm-up.
            before = before or descriptors()
        assert descriptors() == before
        try:
            print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("no child left")

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_many_processes_leave_nothing_behind(in_child: Child) -> None:
    assert in_child(many_processes).stdout == "no child left\n"


async def test_a_program_may_replace_how_pipes_are_connected(loop: Any) -> None:
    """The replacement waits while the process already writes and ends; nothing is lost."""
    connected: list[str] = []
    # The process holds the other end while it lives; asyncio may reap it before anybody looks.
    life, theirs = os.pipe()

    def replace(name: str) -> None:
        original = getattr(loop, name)

        async def replacement(factory: Any, pipe: Any) -> Any:
            connected.append(name)
            pair = await original(factory, pipe)
            if name == "connect_write_pipe":
                os.close(theirs)
                while not select.select([life], [], [], 0)[0]:
                    await asyncio.sleep(0)
                connected.append("exited")
            return pair

        setattr(loop, name, replacement)

    replace("connect_read_pipe")
    replace("connect_write_pipe")
    transport, protocol = await loop.subprocess_exec(
        Recorder, sys.executable, "-c", "print('said early')", stderr=None, pass_fds=[theirs]
    )
    os.close(life)
    assert await protocol.lost is None
    assert connected == ["connect_write_pipe", "exited", "connect_read_pipe"]
    assert protocol.received == {1: b"said early\n"}
    assert protocol.events[0] == "made"
    assert sorted(protocol.events[1:-1]) == ["exited", "pipe 0", "pipe 1"]
    assert protocol.events[-1] == "lost"
    assert transport.get_returncode() == 0
    for name in ("connect_read_pipe", "connect_write_pipe"):
        delattr(loop, name)


@pytest.mark.parametrize("name", ["connect_read_pipe", "connect_write_pipe"])
async def test_a_cancelled_connection_of_a_pipe_ends_the_process(
    loop: Any, loop_name: str, name: str
) -> None:
    if loop_name == "asyncio" and sys.version_info < (3, 14):
        pytest.skip("asyncio then leaves the pipes open")
    before = set(os.listdir("/proc/self/fd"))
    failing = mock.AsyncMock(side_effect=asyncio.CancelledError)
    with mock.patch.object(loop, name, failing):
        with pytest.raises(asyncio.CancelledError):
            await loop.subprocess_exec(
                Recorder, sys.executable, "-c", "import time; time.sleep(3600)"
            )
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0
