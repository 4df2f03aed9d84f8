"""Ctrl-C: a real SIGINT to a real process, in every state that a program can be in.

Each program says ``ready`` when it is where the signal shall hit it; only then the parent
sends the signal (and again at each further ``ready``). Its trace and its exit status must be
those of the same program on asyncio. A program ends its own input by waiting for the parent
to close it, so that nothing depends on timing but this: which instruction the signal hits. At
some of them asyncio itself leaves its loop marked as running, or goes to sleep with the signal
unseen; so what asyncio does is what it does most of the time, and oxloop must do that every time.
"""

import collections
import functools
import os
import signal
import subprocess
import sys
import threading
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
HUNG_S = 30
PLAYS_OF_ASYNCIO = 7

Outcome = tuple[int, str, bool]


def outcome(scenario: str, loop_name: str, **env: str) -> Outcome:
    """Run a scenario: its exit status, its trace, whether it shows a KeyboardInterrupt.

    `env` are further environment variables. A program that does not end is killed.
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
    hung = threading.Timer(HUNG_S, program.kill)
    hung.start()
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
        hung.cancel()
        program.kill()
        program.wait()
        for pipe in (program.stdin, program.stdout, program.stderr):
            pipe.close()
    assert "Fatal Python error" not in errors, errors
    # What debug mode meets while the interpreter ends comes after the traceback.
    errors = errors.partition("Exception ignored")[0]
    last = errors.strip().splitlines()[-1:] or [""]
    return status, "".join(trace), last[0].startswith("KeyboardInterrupt")


@functools.cache
def asyncio_once(scenario: str, debug: str) -> Outcome:
    """What asyncio did, the first time."""
    return outcome(scenario, "asyncio", PYTHONASYNCIODEBUG=debug)


@functools.cache
def asyncio_mostly(scenario: str, debug: str) -> Outcome:
    """What asyncio does most of the time."""
    plays = [
        outcome(scenario, "asyncio", PYTHONASYNCIODEBUG=debug) for _ in range(PLAYS_OF_ASYNCIO)
    ]
    return collections.Counter(plays).most_common(1)[0][0]


@pytest.mark.timeout(HUNG_S * (PLAYS_OF_ASYNCIO + 2))
@pytest.mark.parametrize("debug", ["", "1"], ids=["normal", "debug"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ends_as_asyncio_does(scenario: str, debug: str, loop_name: str) -> None:
    if loop_name == "asyncio":
        status, trace, _ = asyncio_once(scenario, debug)
        assert "ready\n" in trace
        assert trace.endswith("end\n") == (status == 0)
        return
    found = outcome(scenario, loop_name, PYTHONASYNCIODEBUG=debug)
    if found != asyncio_once(scenario, debug):
        assert found == asyncio_mostly(scenario, debug)


@pytest.mark.parametrize("scenario", ["busy_loop", "idle_loop", "callback"])
def test_an_unhandled_interrupt_kills_by_the_signal(scenario: str, loop_name: str) -> None:
    status, _, shown = outcome(scenario, loop_name)
    assert status == -signal.SIGINT
    assert shown
