"""2,000 SIGINTs at random moments in six workloads: each ends as asyncio's would, nothing is left.

`storm.py` plays the rounds; asyncio plays some of them too, so that the rules are asyncio's.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
STORM = Path(__file__).with_name("storm.py")
WORKLOADS = ["steps", "timers", "streams", "sockets", "threads", "waiting"]
# Twelve parts: 2,004 signals.
ROUNDS = {"oxloop": 167, "asyncio": 30}
SEED = 1
TIMEOUT_S = 280


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["runner", "plain"])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_each_signal_ends_the_program_cleanly(workload: str, mode: str, loop_name: str) -> None:
    rounds = ROUNDS.get(loop_name, 30)
    played = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(STORM)]
        + [workload, mode, loop_name, str(rounds), str(SEED)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *_path()])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if loop_name == "asyncio" and not _is_clean(played, rounds):
        # The control. asyncio may leave a socket behind that it had just accepted, for one.
        pytest.skip(f"asyncio itself does not end cleanly: {last_line(played)[-300:]}")
    assert played.returncode == 0, played.stderr[-4000:]
    result = json.loads(last_line(played))
    assert result["wrong"] == []
    assert result["rounds"] == rounds
    assert result["again"] <= _again_max(rounds), result


def _again_max(rounds: int) -> int:
    """A second one is sent where Python swallows it, or the cancellation meets a timeout."""
    return rounds // 4


def _is_clean(played: subprocess.CompletedProcess[str], rounds: int) -> bool:
    if played.returncode:
        return False
    result = json.loads(last_line(played))
    return not result["wrong"] and result["again"] <= _again_max(rounds)


def last_line(played: subprocess.CompletedProcess[str]) -> str:
    """The last line that was printed; of the errors, where nothing was."""
    return ((played.stdout or played.stderr).splitlines() or [""])[-1]


def _path() -> list[str]:
    """The import path of this process, as the environment gave it."""
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
