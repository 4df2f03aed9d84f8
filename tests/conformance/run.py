"""Run CPython's own asyncio tests on oxloop, for the interpreter that runs this file.

    python tests/conformance/run.py [--json FILE] [-j JOBS]

Two runs, with the substitutions that run_cpython_tests.py describes: every test of MODULES on
our loop, then the tests of tasks and futures with our Task and Future in place of the C ones.
What a run leaves out beyond the exclusions of run_cpython_tests.py stands in `LEFT_OUT`, with
its reason. A module that this version of Python does not have is named and passed over.

Exit status 1 for any failure or error. A Python without its own tests (Debian's python3 has
none) is a skip, loudly.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).with_name("run_cpython_tests.py")

LOOP = "oxloop:new_event_loop"

MODULES = (
    "base_events",
    "buffered_proto",
    "context",
    "eager_task_factory",
    "futures",
    "futures2",
    "locks",
    "pep492",
    "protocols",
    "queues",
    "runners",
    "server",
    "sock_lowlevel",
    "staggered",
    "streams",
    "taskgroups",
    "tasks",
    "threads",
    "timeouts",
    "transports",
    "waitfor",
)

# test_events runs apart, since it is cut.
LEFT_OUT = {
    "events": ("datagram|pipe|_pty|subprocess", "datagrams, pipes and processes are not built yet"),
}

SUBSTITUTED = ("futures", "futures2", "tasks")

TOTALS = ("passed", "failed", "errors", "skipped")


@dataclass(frozen=True)
class Run:
    """One call of run_cpython_tests.py."""

    name: str
    arguments: tuple[str, ...]


def runs() -> list[Run]:
    """The calls that make up the conformance test."""
    found = [Run("loop", ("--modules", ",".join(MODULES)))]
    for module, (pattern, _reason) in LEFT_OUT.items():
        match = rf"^(?!.*\.test_\w*({pattern})[^.]*$)"
        found.append(Run(f"loop, {module}", ("--modules", module, "--match", match)))
    substitution = ("--task", "oxloop:Task", "--future", "oxloop:Future")
    found.append(
        Run("Task and Future", ("--modules", ",".join(SUBSTITUTED), *substitution)),
    )
    return found


def carry_out(run: Run, jobs: int) -> dict[str, Any]:
    """Carry out one run and return its JSON; its output goes to ours.

    Raises:
        RuntimeError: the run ended without results.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, str(RUNNER), "--loop", LOOP, "-j", str(jobs)]
        command += [*run.arguments, "--json", str(results)]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL)
        if not results.exists():
            raise RuntimeError(f"{run.name}: no results (exit status {ended.returncode})")
        loaded: dict[str, Any] = json.loads(results.read_text())
        return loaded


def main() -> int:
    parser = argparse.ArgumentParser(description="Run CPython's own asyncio tests on oxloop.")
    parser.add_argument("--json", type=Path, help="write totals and results to this file")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="test modules at once")
    arguments = parser.parse_args()

    total = dict.fromkeys(TOTALS, 0)
    report: dict[str, Any] = {"python": sys.version, "loop": LOOP, "total": total, "runs": {}}
    version = sys.version.split()[0]
    if importlib.util.find_spec("test") is None or not _has_asyncio_tests():
        print(f"SKIPPED: Python {version} ({sys.executable}) comes without its own tests")
        total["skipped"] = 1
    else:
        for run in runs():
            print(f"-- {run.name}", flush=True)
            results = carry_out(run, arguments.jobs)
            report["runs"][run.name] = results
            for name in TOTALS:
                total[name] += results["total"][name]
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    print(f"conformance, Python {version}: " + ", ".join(f"{total[n]} {n}" for n in TOTALS))
    return 1 if total["failed"] or total["errors"] else 0


def _has_asyncio_tests() -> bool:
    try:
        return importlib.util.find_spec("test.test_asyncio") is not None
    except ImportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
