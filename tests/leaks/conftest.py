"""Long runs in processes of their own: counts, and what a process holds.

Each scenario runs in a fresh interpreter, so that its memory, descriptors, threads and children
are its own. By default the counts are small enough for every test run; ``OXLOOP_FULL=1`` runs the
full ones, which take minutes and are those of the project's promises:

    make leaks

A scenario is a function of a loop factory and a count; it returns what it measured, by name. These
figures and the time are printed and recorded as properties of the test (in the junit XML).
"""

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loops
import pytest

TESTS = Path(__file__).resolve().parent.parent

FULL = os.environ.get("OXLOOP_FULL") == "1"
TIMEOUT_S = 1800 if FULL else 100


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder the time that their counts take."""
    for item in items:
        if TESTS / "leaks" in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S + 10, method="thread"), append=False)


@pytest.fixture(params=[name for name in loops.names() if name == "oxloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """Only ours: what asyncio leaks is asyncio's."""
    return request.param


@pytest.fixture
def run_long(
    loop_name: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Callable[..., dict[str, Any]]:
    """`run_long(scenario, few, many)`: run `scenario(loop_factory, count)` in a process.

    `count` is `few`, or `many` in a full run. The figures are shown, recorded and returned.
    """

    def run(scenario: Callable[..., object], few: int, many: int) -> dict[str, Any]:
        path = inspect.getsourcefile(scenario)
        assert path is not None
        arguments = [sys.executable, "-X", "faulthandler", str(TESTS / "leaks" / "child.py")]
        count = many if FULL else few
        search_path = [str(TESTS), str(TESTS / "leaks"), os.environ.get("PYTHONPATH", "")]
        begun = time.monotonic()
        done = subprocess.run(
            [*arguments, path, scenario.__name__, loop_name, str(count)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search_path))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode != 0:
            pytest.fail(f"status {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        assert not done.stderr, done.stderr
        figures = json.loads(done.stdout.splitlines()[-1])
        figures["seconds"] = round(time.monotonic() - begun, 1)
        # As `record_property`, which warns that the newest form of the XML does not know it.
        request.node.user_properties.extend(figures.items())
        with capsys.disabled():
            shown = ", ".join(f"{name} {figure}" for name, figure in figures.items())
            print(f"\n{scenario.__name__}: {shown} ", end="")
        return figures

    return run


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Scenarios are called by their names."""
    return val.__name__ if inspect.isfunction(val) else None
