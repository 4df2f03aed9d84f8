"""`subprocess_exec` and `subprocess_shell`: child processes of the loop.

Facts: `subprocess.Popen` knows how to start a process with every option there is, and programs and
tests replace it. A process number is given out again once the process was waited for, a pidfd never
is; it becomes readable when the process ends. SIGCHLD belongs to the user.
Decision: children are started by `subprocess.Popen`, whose pipes become native transports. The end
is seen by a reader on the pidfd; signals go through the pidfd. Where the kernel or a filter refuses
pidfds, a thread waits for the end without reaping. Reaping is always done here, in the loop's
thread, so a signal never goes to a number that was given out again.
What can still go wrong: code that waits for any child (`os.wait()`, SIGCHLD ignored) takes the
status away; then the return code is what `Popen` knows, or 255. When the loop is closed before the
end, nobody is told; `subprocess` reaps the process later.

Source of behaviour: CPython `Lib/asyncio/base_subprocess.py`, `unix_events.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import warnings
from asyncio.base_events import BaseEventLoop
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from ._pipes import Pipes

__all__ = ["ProcessTransport", "Processes"]

# Up to 3.13 `wait()` waits for the pipes too, which a grandchild may hold open.
_WAIT_ENDS_WITH_PROCESS = sys.version_info >= (3, 14)

_UNKNOWN_RETURNCODE = 255

_OWN_CONNECTS = (Pipes.connect_read_pipe, Pipes.connect_write_pipe)


class _PipeProtocol(asyncio.Protocol):
    """Passes on what happens on one pipe of a process."""

    def __init__(self, process: ProcessTransport, fd: int) -> None:
        self.process: ProcessTransport | None = process
        self.fd = fd
        self.pipe: Any = None
        self.disconnected = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self.fd} pipe={self.pipe!r}>"

    def data_received(self, data: bytes) -> None:
        if self.process is not None:
            self.process._call("pipe_data_received", self.fd, data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.disconnected = True
        process, self.process = self.process, None
        if process is not None:
            process._call("pipe_connection_lost", self.fd, exc)
            process._try_finish()

    def pause_writing(self) -> None:
        if self.process is not None:
            self.process._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self.process is not None:
            self.process._protocol.resume_writing()


class ProcessTransport(asyncio.SubprocessTransport):
    """A child process and its pipes. Made by the loop.

    `process_exited` and `pipe_connection_lost` of every pipe come, in the order in which they
    happen, before `connection_lost`.
    """

    def __init__(
        self,
        loop: Any,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        details = dict(extra or {})
        super().__init__(details)
        self._closed = True  # Until there is a process.
        self._loop = loop
        self._protocol = protocol
        self._pid: int | None = None
        self._returncode: int | None = None
        self._pidfd: int | None = None
        self._pipes: dict[int, _PipeProtocol] = {}
        self._exit_waiters: list[asyncio.Future[int]] = []
        self._started = False
        self._finished = False
        self._connecting = False
        # Calls of the protocol that came before `connection_made`.
        self._early: list[tuple[str, tuple[Any, ...]]] = []
        self._proc: Any = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )
        self._closed = False
        self._pid = self._proc.pid
        details["subprocess"] = self._proc
        if loop.get_debug():
            program = args if isinstance(args, bytes | str) else args[0]
            logger.debug("process %r created: pid %s", program, self._pid)

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        if self._closed:
            parts.append("closed")
        if self._pid is not None:
            parts.append(f"pid={self._pid}")
        if self._returncode is not None:
            parts.append(f"returncode={self._returncode}")
        elif self._pid is not None:
            parts.append("running")
        else:
            parts.append("not started")
        names = {0: "stdin", 1: "stdout", 2: "stderr"}
        parts.extend(f"{names[fd]}={pipe.pipe!r}" for fd, pipe in self._pipes.items())
        return f"<{' '.join(parts)}>"

    async def _begin(self) -> None:
        """Watch the process, connect its pipes, and wait until the protocol knows of it."""
        loop, process = self._loop, self._proc
        self._watch_exit()
        ends = (
            (0, process.stdin, loop.connect_write_pipe, loop._make_write_pipe_transport),
            (1, process.stdout, loop.connect_read_pipe, loop._make_read_pipe_transport),
            (2, process.stderr, loop.connect_read_pipe, loop._make_read_pipe_transport),
        )
        self._connecting = True
        try:
            for fd, file, connect, make_transport in ends:
                if file is None:
                    continue
                pipe = _PipeProtocol(self, fd)
                if getattr(connect, "__func__", None) in _OWN_CONNECTS:
                    pipe.pipe = make_transport(file, pipe)
                else:
                    # A program has put its own in the place of the loop's method.
                    pipe.pipe, _ = await connect(lambda pipe=pipe: pipe, file)
                self._pipes[fd] = pipe
            self._started = True
            loop.call_soon(self._protocol.connection_made, self)
        finally:
            self._connecting = False
            early, self._early = self._early, []
            for name, args in early:
                self._call(name, *args)
            self._try_finish()
        waiter = loop.create_future()
        loop.call_soon(_set_done, waiter)
        await waiter

    # The end of the process.

    def _watch_exit(self) -> None:
        pid = self._proc.pid
        try:
            self._pidfd = os.pidfd_open(pid)
            self._loop._add_reader(self._pidfd, self._reap)
        except ProcessLookupError:
            # Ended, and reaped by somebody else.
            self._loop.call_soon(self._reap)
        except OSError:
            self._close_pidfd()
            waiting = threading.Thread(
                target=_wait_in_thread,
                args=(self._loop, pid, self._reap),
                name=f"oxloop-waitpid-{pid}",
                daemon=True,
            )
            try:
                waiting.start()
            except RuntimeError:
                # No thread to be had: nobody would ever see the end, so it is brought about now.
                self._proc.kill()
                self._proc.wait()
                self._loop.call_soon(self._reap)
                raise

    def _reap(self) -> None:
        """Fetch the status of the process, which has ended."""
        process = self._proc
        if process is None or self._returncode is not None:
            return
        # Popen may have waited already, and then the number may be another process's.
        returncode = process.returncode
        if returncode is None:
            returncode = self._fetch_status(process.pid)
        if returncode is None:
            return  # Not ended: the reader calls again.
        if self._loop.get_debug():
            logger.debug("process %s exited with returncode %s", process.pid, returncode)
        self._close_pidfd()
        self._process_exited(returncode)

    def _fetch_status(self, pid: int) -> int | None:
        """Reap the process; its return code, or None if it has not ended."""
        ended = os.WEXITED | os.WNOHANG
        try:
            if self._pidfd is not None:
                result = os.waitid(os.P_PIDFD, self._pidfd, ended)
            else:
                result = os.waitid(os.P_PID, pid, ended)
        except ChildProcessError:
            logger.warning(
                "child process pid %d exit status already read:  will report returncode 255"
                if self._pidfd is not None
                else "Unknown child process pid %d, will report returncode 255",
                pid,
            )
            return _UNKNOWN_RETURNCODE
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def _close_pidfd(self) -> None:
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            if not self._loop.is_closed():
                self._loop._remove_reader(pidfd)
            os.close(pidfd)

    def _process_exited(self, returncode: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        if self._proc.returncode is None:
            # So that Popen neither waits again nor warns.
            self._proc.returncode = returncode
        self._call("process_exited")
        if _WAIT_ENDS_WITH_PROCESS:
            self._wake_waiters()
        self._try_finish()

    def _try_finish(self) -> None:
        if self._finished or self._connecting or self._returncode is None:
            return
        if all(pipe.disconnected for pipe in self._pipes.values()):
            self._finished = True
            self._loop.call_soon(self._connection_lost)

    def _connection_lost(self) -> None:
        try:
            if self._started:
                self._protocol.connection_lost(None)
        finally:
            self._wake_waiters()
            self._loop = None
            self._proc = None
            self._protocol = None

    def _call(self, name: str, *args: Any) -> None:
        """Schedule a call of the protocol."""
        if self._started:
            self._loop.call_soon(getattr(self._protocol, name), *args)
        elif self._connecting:
            self._early.append((name, args))

    def _wake_waiters(self) -> None:
        waiters, self._exit_waiters = self._exit_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)  # type: ignore[arg-type]

    async def _wait(self) -> int:
        """Wait for the end of the process; up to Python 3.13 also for that of its pipes."""
        if self._returncode is not None:
            return self._returncode
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._exit_waiters.append(waiter)
        try:
            return await waiter
        finally:
            # One that was cancelled; the others are gone with the list.
            if waiter in self._exit_waiters:
                self._exit_waiters.remove(waiter)

    # What a protocol may ask.

    def get_pid(self) -> int | None:  # type: ignore[override]
        """The number of the process."""
        return self._pid

    def get_returncode(self) -> int | None:
        """The exit status, minus the signal's number if one killed it; None while it runs."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        """The transport of stdin (0), stdout (1) or stderr (2); None if that is no pipe."""
        pipe = self._pipes.get(fd)
        return None if pipe is None else pipe.pipe

    def set_protocol(self, protocol: Any) -> None:
        """Replace the protocol."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """The protocol; None once the connection is lost."""
        return self._protocol

    def is_closing(self) -> bool:
        """True once `close()` was called."""
        return self._closed

    def send_signal(self, signal: int) -> None:
        """Send a signal, unless the process has ended.

        ProcessLookupError once the connection is lost; PermissionError if the process is not ours
        to signal.
        """
        if self._proc is None:
            raise ProcessLookupError
        if self._returncode is not None:
            return
        try:
            if self._pidfd is not None:
                _send_by_pidfd(self._pidfd, signal)
            elif self._proc.returncode is None:
                # Not reaped, so the number is still that of this process.
                os.kill(self._proc.pid, signal)
        except ProcessLookupError:
            pass

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes, and kill the process if it still runs."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes.values():
            pipe.pipe.close()
        process = self._proc
        if process is None:
            return
        for fd, file in enumerate((process.stdin, process.stdout, process.stderr)):
            if file is not None and fd not in self._pipes:
                file.close()
        if self._returncode is None and process.returncode is None:
            if self._loop.get_debug() and not self._has_ended():
                logger.warning("Close running child process: kill %r", self)
            try:
                process.kill()
            except (ProcessLookupError, PermissionError):
                # Ended already, or it has changed its user.
                pass
        if self._loop.is_closed():
            # Nobody will be told any more.
            self._close_pidfd()

    def _has_ended(self) -> bool:
        """Whether the process has ended, without taking its status."""
        if self._pidfd is None:
            return False
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PIDFD, self._pidfd, ended) is not None
        except ChildProcessError:
            return True

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not getattr(self, "_closed", True):
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close()
        if getattr(self, "_pidfd", None) is not None:
            # The loop was closed after `close`, and before the process had ended.
            self._close_pidfd()


def _send_by_pidfd(pidfd: int, number: int) -> None:
    signal.pidfd_send_signal(pidfd, number)


def _set_done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _wait_in_thread(loop: Any, pid: int, reap: Callable[[], None]) -> None:
    """Wait until the process has ended, and have it reaped in the loop's thread."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass  # Somebody else has reaped it.
    try:
        loop.call_soon_threadsafe(reap)
    except RuntimeError:
        logger.warning("Loop %r that handles pid %r is closed", loop, pid)


class Processes:
    """The coroutines of the loop that start processes; a mixin of `EventLoop`."""

    # asyncio's own coroutines: they check the arguments, make the protocol and call what is below.
    # blockbuster knows them, and lets `Popen` wait in them until the program is loaded.
    subprocess_exec = BaseEventLoop.subprocess_exec
    subprocess_shell = BaseEventLoop.subprocess_shell
    _log_subprocess = BaseEventLoop._log_subprocess  # type: ignore[attr-defined]

    async def _make_subprocess_transport(
        self: Any,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ProcessTransport:
        """Start a process and wait until its protocol knows it.

        A caller that is cancelled meanwhile gets the process killed and reaped first.
        """
        transport = ProcessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs
        )
        try:
            await transport._begin()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport
