"""2,000 SIGINTs at random moments, twelve workloads: each ends as asyncio's would, nothing is left.

`storm.py` plays the rounds. Half of the workloads use asyncio's names; asyncio plays some of their
rounds too, so that the rules are asyncio's. The other half imports oxloop as asyncio.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import loops
import pytest

TESTS = Path(__file__).resolve().parents[1]
STORM = Path(__file__).with_name("storm.py")
WORKLOADS = ["steps", "timers", "streams", "sockets", "threads", "waiting"]
NATIVE_WORKLOADS = ["groups", "together", "timeouts", "queues", "semaphores", "lines"]
# Twenty-four parts: 2,016 signals.
ROUNDS = {"oxloop": 84, "asyncio": 30}
SEED = 1
TIMEOUT_S = {"oxloop": 280, "asyncio": 150}
# About one in fifty may need a second signal: where asyncio's own Python code is hit, what it was
# to wake is never woken. On oxloop 1 of 20,160 did (in `waiting`, whose locks are asyncio's), so
# that three in one part are next to impossible. asyncio's loop is all Python code and needs more.
LOST_SHARE_MAX = {"oxloop": 1 / 50, "asyncio": 1 / 4}
# In `lines`, where a destructor in Python code runs all the time, 1 or 2 in 100 are; else none.
SWALLOWED_SHARE_MAX = 1 / 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["runner", "plain"])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_each_signal_ends_the_program_cleanly(workload: str, mode: str, loop_name: str) -> None:
    rounds = ROUNDS.get(loop_name, 30)
    try:
        played = play("asyncio", workload, mode, loop_name, rounds)
    except subprocess.TimeoutExpired:
        if loop_name != "asyncio":
            raise
        pytest.skip("asyncio itself does not end")
    if loop_name == "asyncio" and not _is_clean(played, loop_name, rounds):
        # The control. asyncio may leave a socket behind that it had just accepted, for one.
        pytest.skip(f"asyncio itself does not end cleanly: {last_line(played)[-300:]}")
    check(played, loop_name, rounds)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["runner", "plain"])
@pytest.mark.parametrize("workload", NATIVE_WORKLOADS)
@pytest.mark.parametrize("loop_name", [name for name in loops.names() if name == "oxloop"])
def test_each_signal_ends_native_classes_cleanly(workload: str, mode: str, loop_name: str) -> None:
    rounds = ROUNDS["oxloop"]
    check(play("oxloop", workload, mode, loop_name, rounds), loop_name, rounds)


def play(
    names: str, workload: str, mode: str, loop_name: str, rounds: int
) -> subprocess.CompletedProcess[str]:
    """Run `storm.py` to its end."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", str(STORM)]
        + [names, workload, mode, loop_name, str(rounds), str(SEED)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *_path()])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S.get(loop_name, 280),
    )


def check(played: subprocess.CompletedProcess[str], loop_name: str, rounds: int) -> None:
    """Fail if it found anything, or did not play all rounds."""
    assert played.returncode == 0, played.stderr[-4000:]
    result = json.loads(last_line(played))
    assert result["wrong"] == []
    assert result["rounds"] == rounds
    assert result["lost"] <= _most(rounds, LOST_SHARE_MAX.get(loop_name, 1 / 4)), result
    assert result["swallowed"] <= _most(rounds, SWALLOWED_SHARE_MAX), result


def _most(rounds: int, share: float) -> int:
    """This share of the rounds, at least two."""
    return max(2, int(rounds * share))


def _is_clean(played: subprocess.CompletedProcess[str], loop_name: str, rounds: int) -> bool:
    try:
        check(played, loop_name, rounds)
    except AssertionError:
        return False
    return True


def last_line(played: subprocess.CompletedProcess[str]) -> str:
    """The last line that was printed; of the errors, where nothing was."""
    return ((played.stdout or played.stderr).splitlines() or [""])[-1]


def _path() -> list[str]:
    """The import path of this process, as the environment gave it."""
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
