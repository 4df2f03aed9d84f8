"""Programs that a test starts: their output line by line, their end, and free ports.

Facts. A program that takes port 0 says in its output which port it got; one that does not (the
databases) must be given a port that nobody holds. Between finding such a port and the program's
bind, someone else may take it: the program then ends at once and `wait_for_line` says so, with
its output. A program must never outlive its test, not even when the time limit ends the whole
test process at once, without any clean-up.

Decision. Standard output and standard error go into one pipe, read by a thread into a list, so
that the program never blocks on a full pipe and a test can wait for a line without sleeping.
`setpriv`, where it is installed, has the kernel kill the program when this process dies.

What can still go wrong: the programs that such a program has started may outlive it.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

START_LIMIT_S = 30.0
END_LIMIT_S = 15.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """A child process whose output can be waited for. Use as a context manager."""

    def __init__(self, command: Sequence[str], **popen_options: Any) -> None:
        """Start `command`; `popen_options` are those of subprocess.Popen."""
        self.command = list(command)
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        self.process = subprocess.Popen(
            prefix + self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **popen_options,
        )
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """Everything that the program has printed so far."""
        with self._changed:
            return "\n".join(self._lines)

    def wait_for_line(self, pattern: str, limit_s: float = START_LIMIT_S) -> re.Match[str]:
        """The first match of `pattern` in a line of output, past or future.

        Raises AssertionError with the output when the program ends or `limit_s` passes first.
        """
        expression = re.compile(pattern)

        def found() -> re.Match[str] | None:
            return next(filter(None, map(expression.search, self._lines)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, limit_s)
            match = found()
        assert match, f"{self.command} never printed {pattern!r}:\n{self.output}"
        return match

    def send_signal(self, number: signal.Signals) -> None:
        """Send the signal `number` to the program."""
        self.process.send_signal(number)

    def wait(self, limit_s: float = END_LIMIT_S) -> int:
        """The exit status (negative: the signal), once the program has ended by itself.

        Raises AssertionError with the output when it does not end within `limit_s` seconds.
        """
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} does not end:\n{self.output}") from None
        self._reader.join(END_LIMIT_S)
        return status

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(END_LIMIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
