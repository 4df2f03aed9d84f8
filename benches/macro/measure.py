"""One measurement of one server: start it, load it, end it.

Server and load generator are pinned to different CPUs, so that neither takes the other's time and
the server has a whole CPU. The load generator reads the server's CPU time (user and system, all
its threads) at both ends of its window by the process's CPU clock, which counts nanoseconds;
/proc/PID/stat counts 10 ms ticks. On a CPU of its own the load generator never sleeps: to wake a
sleeping CPU costs the server, in a virtual machine more than the reply itself, and is no part of
serving a client that lives elsewhere. With one CPU the two share it: CPU per reply still means
something, replies per second and latency then do not.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from macro.case import Case

_SERVER = Path(__file__).resolve().parent / "server.py"
_TLS_LOAD = Path(__file__).resolve().parent / "tls_load.py"
START_S_MAX = 20.0
END_S_MAX = 5.0
ENDING_S_MAX = 1.0
# Beyond warm-up and window: connecting, and the load generator's own patience with a stall.
LOAD_SPARE_S = 30.0


class Failure(Exception):
    """A benchmark that could not be measured; the text says why, in one line."""


def pinned_cpus() -> tuple[int, int] | None:
    """The CPUs of server and load generator, or None if this process may use one only."""
    cpus = sorted(os.sched_getaffinity(0))
    return (cpus[0], cpus[1]) if len(cpus) > 1 else None


def pin_to(cpu: int | None) -> Callable[[], None] | None:
    """What a child process calls before it starts, to stay on `cpu`; None leaves it free."""
    if cpu is None:
        return None
    return lambda: os.sched_setaffinity(0, {cpu})


def last_line(text: str) -> str:
    """The last line that says something: of a traceback, the exception."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def ending(status: int, errors: str) -> str:
    """How a process has ended, in one line: by signal, or its last words, or its exit status."""
    words = last_line(errors)
    if status < 0:
        return f"died of signal {-status}" + (f": {words}" if words else "")
    return words or f"exit status {status}"


def _errors_of(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _server_ending(server: subprocess.Popen[str], log: IO[str]) -> str:
    """What a server that has ended by itself, or has errors to report, says; else nothing."""
    try:
        # A server that crashes closes its connections before it is gone.
        status = server.wait(ENDING_S_MAX)
    except subprocess.TimeoutExpired:
        return last_line(_errors_of(log))
    return ending(status, _errors_of(log))


def _port_of(server: subprocess.Popen[str], log: IO[str]) -> int:
    assert server.stdout
    readable, _, _ = select.select([server.stdout], [], [], START_S_MAX)
    line = server.stdout.readline() if readable else ""
    if not line.strip().isdigit():
        says = _server_ending(server, log) or "no port was printed"
        raise Failure(f"the server did not start: {says}")
    return int(line)


def _end(server: subprocess.Popen[str]) -> None:
    server.terminate()
    try:
        server.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    assert server.stdout
    server.stdout.close()


def measure(
    case: Case, loop: str, generator: Path, window_s: float, warmup_s: float
) -> dict[str, float]:
    """The window of `case` on `loop`: replies_per_s, p50_us, p99_us and cpu_us (per reply).

    Raises Failure if the server does not start, gives a wrong reply, or ends by itself.
    """
    server_cpu, load_cpu = pinned_cpus() or (None, None)
    command = [sys.executable, str(_SERVER), loop, *case.server_args()]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=pin_to(server_cpu),
        )
        try:
            port = _port_of(server, log)
            load = [sys.executable, str(_TLS_LOAD)] if case.tls else [str(generator)]
            load += ["--addr", f"127.0.0.1:{port}", *case.load_args()]
            load += ["--seconds", str(window_s), "--warmup", str(warmup_s)]
            load += ["--server-pid", str(server.pid)]
            if load_cpu is not None:
                load.append("--spin")
            try:
                loaded = subprocess.run(
                    load,
                    capture_output=True,
                    text=True,
                    timeout=window_s + warmup_s + LOAD_SPARE_S,
                    preexec_fn=pin_to(load_cpu),
                )
            except subprocess.TimeoutExpired as error:
                raise Failure("the load generator did not end in time") from error
            if loaded.returncode:
                says = _server_ending(server, log) or "still running, no errors"
                raise Failure(f"{last_line(loaded.stderr)} (server: {says})")
            if (status := server.poll()) is not None:
                raise Failure(f"the server ended by itself: {ending(status, _errors_of(log))}")
        finally:
            _end(server)
    window = json.loads(loaded.stdout)
    if window["errors"]:
        raise Failure(f"{window['errors']} errors, the first: {window['first_error']}")
    if not window["replies"]:
        raise Failure("no reply in the window")
    return {
        "replies_per_s": window["replies_per_s"],
        "p50_us": window["p50_us"],
        "p99_us": window["p99_us"],
        "cpu_us": window["server_cpu_s"] * 1e6 / window["replies"],
    }
