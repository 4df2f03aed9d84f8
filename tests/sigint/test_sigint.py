"""Ctrl-C: a real SIGINT to a real process, in every state that a program can be in.

Each program says ``ready`` when it is where the signal shall hit it; only then the parent
sends the signal (and again at each further ``ready``). Its trace and its exit status must be
those of the same program on asyncio. A program ends its own input by waiting for the parent
to close it, so that nothing depends on timing.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).with_name("interrupted.py")
SCENARIOS = [
    "busy_loop",
    "idle_loop",
    "timer_only",
    "callback",
    "callback_twice",
    "cleaning_up",
    "cleaning_up_twice",
    "refusing",
    "executor_shutdown",
    "asyncgen_shutdown",
    "plain_idle_loop",
    "plain_callback",
    "plain_busy_loop",
    "plain_own_handler",
]


def outcome(scenario: str, loop_name: str, **env: str) -> tuple[int, str, bool]:
    """Run a scenario: its exit status, its trace, whether it shows a KeyboardInterrupt.

    `env` are further environment variables.
    """
    search_path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    program = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(PROGRAMS), scenario, loop_name],
        env={**os.environ, "PYTHONPATH": search_path, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdin and program.stdout and program.stderr
    trace = []
    try:
        for line in program.stdout:
            trace.append(line)
            if line == "ready\n":
                program.send_signal(signal.SIGINT)
                if scenario == "executor_shutdown":
                    program.stdin.close()
        errors = program.stderr.read()
        status = program.wait(20)
    finally:
        program.kill()
        program.wait()
        for pipe in (program.stdin, program.stdout, program.stderr):
            pipe.close()
    assert "Fatal Python error" not in errors, errors
    # What debug mode meets while the interpreter ends comes after the traceback.
    errors = errors.partition("Exception ignored")[0]
    last = errors.strip().splitlines()[-1:] or [""]
    return status, "".join(trace), last[0].startswith("KeyboardInterrupt")


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[int, str, bool]]:
    """What asyncio does, by scenario and mode."""
    return {}


@pytest.mark.parametrize("debug", ["", "1"], ids=["normal", "debug"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ends_as_asyncio_does(
    scenario: str, debug: str, loop_name: str, expected: dict[str, tuple[int, str, bool]]
) -> None:
    key = scenario + debug
    if key not in expected:
        expected[key] = outcome(scenario, "asyncio", PYTHONASYNCIODEBUG=debug)
    status, trace, _ = expected[key]
    assert "ready\n" in trace
    assert trace.endswith("end\n") == (status == 0), expected[key]
    assert outcome(scenario, loop_name, PYTHONASYNCIODEBUG=debug) == expected[key]


@pytest.mark.parametrize("scenario", ["busy_loop", "idle_loop", "callback"])
def test_an_unhandled_interrupt_kills_by_the_signal(scenario: str, loop_name: str) -> None:
    status, _, shown = outcome(scenario, loop_name)
    assert status == -signal.SIGINT
    assert shown
