"""Run CPython's own asyncio tests on oxloop, for the interpreter that runs this file.

    python tests/conformance/run.py [--json FILE] [-j JOBS] [--debug]

Three runs, with the substitutions that run_cpython_tests.py describes: every test that it keeps for
a foreign loop, on our loop; those of tasks and futures with our Task and Future under asyncio's own
combinators; then all with `import oxloop as asyncio`, which puts every name of ours in the place of
asyncio's. With --debug the first is made a second time in asyncio's debug mode. Each exclusion and
its reason stand in run_cpython_tests.py; there are no others.

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

TOTALS = ("passed", "failed", "errors", "skipped")


@dataclass(frozen=True)
class Run:
    """One call of run_cpython_tests.py."""

    name: str
    arguments: tuple[str, ...]


def runs(debug: bool) -> list[Run]:
    """The calls that make up the conformance test."""
    found = [Run("loop", ())]
    if debug:
        found.append(Run("loop, debug mode", ("--debug",)))
    substituted = ("--task", "oxloop:Task", "--future", "oxloop:Future")
    modules = ("--modules", "test_tasks,test_futures,test_futures2")
    found.append(Run("Task and Future", (*substituted, *modules)))
    found.append(Run("import oxloop as asyncio", ("--namespace", "oxloop")))
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
    parser.add_argument("--debug", action="store_true", help="also in asyncio's debug mode")
    arguments = parser.parse_args()

    total = dict.fromkeys(TOTALS, 0)
    report: dict[str, Any] = {"python": sys.version, "loop": LOOP, "total": total, "runs": {}}
    version = sys.version.split()[0]
    if importlib.util.find_spec("test") is None or not _has_asyncio_tests():
        print(f"SKIPPED: Python {version} ({sys.executable}) comes without its own tests")
        total["skipped"] = 1
    else:
        for run in runs(arguments.debug):
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
