"""`make demo`: the same unmodified program on asyncio and on oxloop, side by side.

    python demo/compare.py [--rounds N] [--seconds S] [--sessions N]

Each round starts demo/app.py and demo/clients.py afresh on one loop and then on the other; the
order changes with each round, so that a machine that slows down slows both. On oxloop they are
started by `python -m oxloop run`, else by `python`: nothing in them differs. Server and clients
get a CPU each where there are two. The clients check every answer; a wrong one ends the demo.

The CPU of the server is the kernel's account of its process, read when the clients say that the
measured time begins and ends (in steps of 10 ms). Figures are medians over the rounds. Writes
results/demo.json (all rounds) and results/demo.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plot import METRICS, plot

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
LOOPS = {"asyncio": (), "oxloop": ("-m", "oxloop", "run")}
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10
NOISE = 0.03  # differences below are called the same


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass(frozen=True)
class Load:
    """What the clients are asked to do."""

    sessions: int
    warmup_s: float
    seconds: float

    def arguments(self) -> tuple[str, ...]:
        """The same for the command line of the clients."""
        sessions, warmup_s, seconds = map(str, (self.sessions, self.warmup_s, self.seconds))
        return ("--sessions", sessions, "--warmup", warmup_s, "--seconds", seconds)


class Progress:
    """One line that fills up on a terminal; one line a measurement elsewhere."""

    def __init__(self, measurements: int) -> None:
        self._measurements = measurements
        self._done = 0
        self._live = sys.stdout.isatty()

    def begin(self, loop: str, round_number: int) -> None:
        self._text = f"[{self._done + 1}/{self._measurements}] round {round_number}, {loop:7}"
        if self._live:
            self._show(0.0, "warming up")

    def update(self, fraction: float, requests: int) -> None:
        if self._live:
            self._show(fraction, f"{requests} requests answered")

    def end(self, requests_per_s: float) -> None:
        self._done += 1
        text = f"{self._text}  {requests_per_s:8.0f} requests/s"
        print(f"\r\033[K{text}" if self._live else text, flush=True)

    def _show(self, fraction: float, note: str) -> None:
        width = 24
        filled = round(min(fraction, 1.0) * width)
        bar = "#" * filled + "." * (width - filled)
        print(f"\r\033[K{self._text}  {bar}  {note}", end="", flush=True)


def start(loop: str, script: str, *arguments: str, cpu: int | None) -> subprocess.Popen[str]:
    """Start one of the demo's programs on a loop, on one CPU if given."""
    command = [sys.executable, *LOOPS[loop], str(HERE / script), *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment()
    )
    if cpu is not None:
        os.sched_setaffinity(process.pid, {cpu})
    return process


def environment() -> dict[str, str]:
    """Ours, without what would decide on a loop or its debug mode."""
    unwanted = ("OXLOOP", "PYTHONPATH", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all of its threads."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(process: subprocess.Popen[str], name: str) -> None:
    """End a server in order; one that does not end is an error."""
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise DemoError(f"the server on {name} did not end on SIGTERM") from None
    if status != 0:
        raise DemoError(f"the server on {name} ended with exit status {status}")


def measure(loop: str, load: Load, cpus: tuple[int, int] | None, progress: Progress) -> Any:
    """One measurement: a fresh server and fresh clients on `loop`; returns its figures."""
    server_cpu, client_cpu = cpus or (None, None)
    server = start(loop, "app.py", cpu=server_cpu)
    clients = None
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        if not url:
            raise DemoError(f"the server on {loop} did not start (exit status {server.wait()})")
        clients = start(loop, "clients.py", url, *load.arguments(), cpu=client_cpu)
        result = follow(clients, server.pid, load, progress)
        if result is None or clients.wait() != 0:
            raise DemoError(f"the clients on {loop} failed (exit status {clients.wait()})")
        stop(server, loop)
    finally:
        for process in (clients, server):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
    return result


def follow(
    clients: subprocess.Popen[str], server_pid: int, load: Load, progress: Progress
) -> dict[str, Any] | None:
    """Read what the clients tell until they end; returns the figures, None without a result."""
    assert clients.stdout is not None
    server_begun_s = server_ended_s = 0.0
    figures: dict[str, Any] | None = None
    for line in clients.stdout:
        told = json.loads(line)
        if told["event"] == "begin":
            server_begun_s = cpu_seconds(server_pid)
        elif told["event"] == "progress":
            progress.update(told["seconds"] / load.seconds, told["requests"])
        elif told["event"] == "end":
            server_ended_s = cpu_seconds(server_pid)
        elif told["event"] == "result":
            figures = told
    if figures is None:
        return None
    requests = figures["requests"]
    return {
        "requests": requests,
        "requests_per_s": requests / figures["seconds"],
        "p50_ms": figures["kinds"]["all"]["p50_ms"],
        "p99_ms": figures["kinds"]["all"]["p99_ms"],
        "server_cpu_us": (server_ended_s - server_begun_s) / requests * 1e6,
        "client_cpu_us": figures["cpu_s"] / requests * 1e6,
        "kinds": figures["kinds"],
    }


def loop_of(loop: str) -> str:
    """The class that `asyncio.new_event_loop` makes in a program started on `loop`."""
    code = "import asyncio; l = asyncio.new_event_loop(); print(type(l).__module__); l.close()"
    command = [sys.executable, *LOOPS[loop], "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment())
    if ended.returncode:
        raise DemoError(f"{loop} does not start: {ended.stderr.strip()}")
    return ended.stdout.strip()


def print_table(rounds: dict[str, list[dict[str, Any]]]) -> None:
    print(f"\n{'median of the rounds':28}{'asyncio':>12}{'oxloop':>12}{'':4}oxloop against asyncio")
    for metric in METRICS:
        middle = {
            loop: statistics.median(figures[metric.name] for figures in rounds[loop])
            for loop in LOOPS
        }
        ratio = middle["oxloop"] / middle["asyncio"]
        if abs(ratio - 1) < NOISE:
            verdict = "the same"
        else:
            verdict = "better" if (ratio > 1) == metric.more_is_better else "worse"
        cells = "".join(f"{middle[loop]:12.{metric.digits}f}" for loop in LOOPS)
        print(f"{metric.title:28}{cells}    {ratio:.2f} x  {verdict}")


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def compare(rounds: int, load: Load) -> None:
    for loop in LOOPS:
        module = loop_of(loop)
        if not module.startswith(loop):
            raise DemoError(f"a program started on {loop} gets a loop of {module}")
    available = sorted(os.sched_getaffinity(0))
    cpus = (available[0], available[1]) if len(available) > 1 else None
    about = machine()
    print(f"{about['cpu']}, Linux {about['kernel']}, Python {about['python']}")
    print(
        f"an aiohttp server and {load.sessions} client sessions, every answer checked; "
        + ("a CPU each" if cpus else "ONE CPU FOR BOTH: expect smaller differences")
    )
    progress = Progress(rounds * len(LOOPS))
    measured: dict[str, list[dict[str, Any]]] = {loop: [] for loop in LOOPS}
    for round_number in range(1, rounds + 1):
        order = list(LOOPS) if round_number % 2 else list(reversed(LOOPS))
        for loop in order:
            progress.begin(loop, round_number)
            figures = measure(loop, load, cpus, progress)
            measured[loop].append(figures)
            progress.end(figures["requests_per_s"])
    print_table(measured)
    RESULTS.mkdir(exist_ok=True)
    written = {"machine": about, "date": time.strftime("%Y-%m-%d"), "rounds": measured}
    (RESULTS / "demo.json").write_text(json.dumps(written, indent=1) + "\n")
    (RESULTS / "demo.svg").write_text(plot(measured, about))
    print("\nwritten: results/demo.json, results/demo.svg")


def main() -> int:
    parser = argparse.ArgumentParser(description="One program on asyncio and on oxloop.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured, per round and loop")
    given = parser.parse_args()
    try:
        compare(given.rounds, Load(given.sessions, given.warmup, given.seconds))
    except DemoError as error:
        print(f"\nmake demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
