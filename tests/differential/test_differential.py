"""Random programs do the same under oxloop as under asyncio; and the comparison sees differences.

`OXLOOP_DIFFERENTIAL_PROGRAMS` says how many programs are run, `OXLOOP_DIFFERENTIAL_FIRST` which
number is the first seed (0). A failure prints the smallest program found that differs, as a script.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from differential import comparing, programs, scripts, sides
from differential.programs import Node, Program
from differential.tracing import Setting

PROGRAMS = int(os.environ.get("OXLOOP_DIFFERENTIAL_PROGRAMS", "1000"))
FIRST = int(os.environ.get("OXLOOP_DIFFERENTIAL_FIRST", "0"))
PROGRAMS_PER_TEST = 250
# Each is run a hundred times or so, once for each of its steps.
CANCELLED_PROGRAMS = max(PROGRAMS // 300, 10)
CANCELLED_PROGRAMS_PER_TEST = 10

# asyncio changes from version to version, and oxloop offers what is newer on the older ones too.
compared = pytest.mark.skipif(
    sys.version_info[:2] != (3, 13), reason="oxloop's locks, queues and waits are those of 3.13"
)


def require_none(check: Callable[[int], str | None], first: int, count: int) -> None:
    """Fail with the report about the first of these seeds that has one."""
    for seed in range(first, first + count):
        report = check(seed)
        if report is not None:
            pytest.fail(report, pytrace=False)


@compared
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(FIRST, FIRST + PROGRAMS, PROGRAMS_PER_TEST))
def test_programs_do_the_same(first: int) -> None:
    require_none(comparing.check, first, min(PROGRAMS_PER_TEST, FIRST + PROGRAMS - first))


@compared
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "first", range(FIRST, FIRST + CANCELLED_PROGRAMS, CANCELLED_PROGRAMS_PER_TEST)
)
def test_programs_do_the_same_when_a_task_is_cancelled_at_any_step(first: int) -> None:
    require_none(comparing.check_cancels, first, CANCELLED_PROGRAMS_PER_TEST)


# Namespaces with one mistake each; the rest is oxloop's.
MISTAKES = {
    # A lock that lets newcomers overtake.
    "Lock": """
class Lock(oxloop.Lock):
    async def acquire(self):
        while self.locked():
            await oxloop.sleep(0)
        return await super().acquire()
""",
    # A queue that loses the wake-up of a cancelled getter.
    "Queue": """
class Queue(oxloop.Queue):
    async def get(self):
        while self.empty():
            getter = oxloop.get_running_loop().create_future()
            self._getters.append(getter)
            await getter
        return self.get_nowait()
""",
    # A sleep that takes one iteration more than it should.
    "sleep": """
async def sleep(delay, result=None):
    await oxloop.sleep(0)
    return await oxloop.sleep(delay, result)
""",
    # Results in the wrong order.
    "gather": """
async def gather(*awaitables, **options):
    return (await oxloop.gather(*awaitables, **options))[::-1]
""",
}


class Plant:
    """Makes sides with a mistake, each of a module of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        monkeypatch.syspath_prepend(str(folder))

    def __call__(self, mistake: str) -> str:
        name = f"planted_{mistake}"
        rest = "\n\ndef __getattr__(name):\n    return getattr(oxloop, name)\n"
        (self.folder / f"{name}.py").write_text("import oxloop\n" + MISTAKES[mistake] + rest)
        module = importlib.import_module(name)
        self.monkeypatch.delitem(sys.modules, name)
        side = sides.Side(module, "oxloop", sides.EXPECTED)
        self.monkeypatch.setitem(sides.SIDES, "planted", side)
        return "planted"


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Called with the name of a mistake, returns the name of the side that has it."""
    return Plant(tmp_path, monkeypatch)


def kinds(program: Program) -> list[list[str]]:
    """The kinds of statements in each block."""
    return [[node.kind for node in block] for block in comparing.blocks_of(program)]


def size(program: Program) -> int:
    """How many tasks and statements there are."""
    return len(program.tasks) + sum(map(len, kinds(program)))


def written(*tasks: list[Node], tick_s: float | None = 1.0) -> Program:
    """A program that chance has not written."""
    return Program([*tasks], Setting(False, tick_s), permits=1, room=0, kind_of_queue="Queue")


def node(kind: str, number: int = 1, *blocks: list[Node], choice: int = 0) -> Node:
    """A statement; its number is that of what it logs."""
    return Node(kind, (number, 1.5, choice, 0), [*blocks])


@compared
@pytest.mark.parametrize(
    ("mistake", "tick_s"),
    # A lock that is waited for in a busy loop would keep a clock that jumps from jumping.
    [("Lock", 0.125), ("Queue", 0.125), ("sleep", 0.125), ("Queue", None), ("sleep", None)],
)
def test_a_planted_mistake_is_found_and_shrunk(
    plant: Plant, mistake: str, tick_s: float | None
) -> None:
    side = plant(mistake)
    for seed in range(1000):
        program = programs.Writer(seed).program()
        program.setting = program.setting._replace(tick_s=tick_s)
        if comparing.difference(program, side):
            small = comparing.shrink(program, side)
            assert comparing.difference(small, side)
            assert size(small) < size(program) / 2
            return
    pytest.fail("nothing was found in 1,000 programs")


@compared
@pytest.mark.parametrize("tick_s", [1.0, None])
def test_a_difference_is_shrunk_to_the_one_statement_that_makes_it(
    plant: Plant, tick_s: float | None
) -> None:
    side = plant("gather")
    inner = [node("pauses", 2, choice=3), node("gather_tasks", 3), node("log", 4)]
    program = written(
        [node("lock", 1, [node("pause")]), node("return", 5)],
        [node("log", 6), node("timeout", 7, [node("finally", 8, inner, [node("pause")])])],
        [node("set_event", 9), node("spawn", 10, [node("pause")], [node("log", 11)])],
        tick_s=tick_s,
    )
    assert comparing.difference(program, side)
    small = comparing.shrink(program, side)
    assert kinds(small) == [["gather_tasks"]]
    assert comparing.difference(small, side)
    assert not comparing.difference(small, "oxloop")


@compared
@pytest.mark.parametrize("tick_s", [1.0, None])
def test_a_mistake_that_takes_a_cancel_at_the_right_step_is_found(
    plant: Plant, tick_s: float | None
) -> None:
    side = plant("Queue")
    getters = [[node("get", number)] for number in (1, 2)]
    program = written(*getters, [node("pauses", 3, choice=2), node("put_nowait", 4)], tick_s=tick_s)
    assert not comparing.difference(program, side)
    tried = list(comparing.cancelled(program, side, "task0"))
    differing = [one for one in tried if comparing.difference(one, side)]
    assert 0 < len(differing) < len(tried)
    assert not any(comparing.difference(one, "oxloop") for one in tried)


@compared
def test_the_printed_script_shows_the_difference_by_itself(plant: Plant, tmp_path: Path) -> None:
    side = plant("gather")
    for tick_s in (1.0, None):
        program = written([node("log", 1)], [node("gather_tasks", 2)], tick_s=tick_s)
        report = comparing.first_report("a test", iter([(program, side)]))
        assert report is not None
        traces = run_script(report, tmp_path)
        assert list(traces) == ["expected asyncio", "planted_gather oxloop"]
        expected, seen = traces.values()
        assert "gathered [first, first, 2]" in expected
        assert "gathered [2, first, first]" in seen
        # The difference is in the report, too.
        for line in set(expected.splitlines()) ^ set(seen.splitlines()):
            assert re.search(rf"^# [+-]{re.escape(line)}$", report, re.MULTILINE)
        assert run_script(report, tmp_path, "oxloop oxloop") == {"oxloop oxloop": expected}


@compared
def test_a_printed_script_does_what_the_program_did(tmp_path: Path) -> None:
    """Also the cancelling, and what the exception handler was given."""
    for seed in (3, 4):
        for program, side in [*comparing.ways(seed), *list(comparing.ways_to_cancel(seed))[5::97]]:
            names, loop, expected = sides.SIDES[side]
            lines = comparing.run(program, names, loop).lines
            report = scripts.script(program, side, "a test", [])
            for trace in run_script(report, tmp_path).values():
                assert trace.splitlines() == lines


def run_script(report: str, folder: Path, *arguments: str) -> dict[str, str]:
    """What a script prints: by its arguments, which are those of its own docstring."""
    (folder / "difference.py").write_text(report)
    commands = re.findall(r"^    python difference.py (.+) > \w+$", report, re.MULTILINE)
    # Nothing but the folder of the script, and what is installed.
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    return {
        command: subprocess.run(
            [sys.executable, "difference.py", *command.split()],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=50,
            check=True,
        ).stdout
        for command in arguments or commands
    }


@compared
@pytest.mark.parametrize("tick_s", [1.0, None])
def test_calls_of_the_exception_handler_are_events(tick_s: float | None) -> None:
    program = written(
        [
            node("set_in_context", 7),
            node("callback_raises_in", 1),
            node("pause"),
            node("log", 2),
            node("callback_raises", 3),
            node("pause"),
            node("log", 4),
        ],
        tick_s=tick_s,
    )
    for side in sides.SIDES.values():
        lines = comparing.run(program, side.names, side.loop).lines
        lines = [re.sub(r"fail\(\) at program:\d+", "fail", line) for line in lines]
        assert [line for line in lines if re.search(r"handler:|\] log", line)] == [
            "handler: Exception in callback program.<>.fail ProgramError(1) [7 0]",
            "0.000000000 task0 [0 0] log 2",
            "handler: Exception in callback program.<>.fail ProgramError(3) [0 0]",
            "0.000000000 task0 [0 0] log 4",
        ]


def test_a_program_is_the_same_each_time() -> None:
    for seed in range(20):
        first, second = (programs.render(programs.Writer(seed).program()) for _ in range(2))
        assert first == second
        compile(first, "program", "exec")


def test_every_kind_of_statement_is_used() -> None:
    used: set[str] = set()
    for seed in range(2000):
        for block in comparing.blocks_of(programs.Writer(seed).program()):
            used |= {node.kind for node in block}
    assert used == {*programs.SIMPLE, *programs.COMPOUND}


def test_every_side_and_clock_is_used() -> None:
    used = {
        (side, tried.setting.tick_s) for seed in range(40) for tried, side in comparing.ways(seed)
    }
    others = [side for side in sides.SIDES if side != "asyncio"]
    assert used == {(side, tick_s) for side in others for tick_s in (1.0, 0.125)} | {
        (side, None) for side in others[:2]
    }
