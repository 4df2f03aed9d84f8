"""Random programs do the same under oxloop as under asyncio; and the comparison sees differences.

`OXLOOP_DIFFERENTIAL_PROGRAMS` says how many programs are run. The seeds are the numbers from 0 on;
a failure prints the smallest program found that differs, as a script.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Any

import oxloop
import pytest

from differential import comparing, programs

PROGRAMS = int(os.environ.get("OXLOOP_DIFFERENTIAL_PROGRAMS", "1000"))
PROGRAMS_PER_TEST = 250

# asyncio changes from version to version, and oxloop offers what is newer on the older ones too.
compared = pytest.mark.skipif(
    sys.version_info[:2] != (3, 13), reason="oxloop's locks, queues and waits are those of 3.13"
)


@compared
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, PROGRAMS, PROGRAMS_PER_TEST))
def test_programs_do_the_same(first: int) -> None:
    for seed in range(first, first + PROGRAMS_PER_TEST):
        report = comparing.check(seed)
        if report is not None:
            pytest.fail(report, pytrace=False)


class OvertakingLock(oxloop.Lock):
    """A lock that lets newcomers overtake."""

    async def acquire(self) -> Any:
        while self.locked():
            await asyncio.sleep(0)
        return await super().acquire()


class ForgetfulQueue(oxloop.Queue[Any]):
    """A queue that loses the wake-up of a cancelled getter."""

    async def get(self) -> Any:
        while self.empty():
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)  # type: ignore[attr-defined]
            await getter
        return self.get_nowait()


async def impatient_sleep(delay: float, result: Any = None) -> Any:
    """A sleep that takes one iteration more than it should."""
    await asyncio.sleep(0)
    return await asyncio.sleep(delay, result)


@pytest.fixture(params=["Lock", "Queue", "sleep"])
def broken(request: pytest.FixtureRequest) -> Iterator[str]:
    """A side on which one name of the namespace is subtly wrong."""
    wrong: dict[str, Any] = {
        "Lock": OvertakingLock,
        "Queue": ForgetfulQueue,
        "sleep": impatient_sleep,
    }
    names = {**vars(oxloop), "TaskGroup": comparing.TaskGroup}
    names[request.param] = wrong[request.param]
    comparing.SIDES["broken"] = (comparing.SimpleNamespace(**names), comparing.OxloopLoop)
    yield "broken"
    del comparing.SIDES["broken"]


@compared
def test_a_planted_mistake_is_found_and_shrunk(broken: str) -> None:
    for seed in range(1000):
        program = programs.Writer(seed).program()
        if comparing.difference(program, broken):
            small = comparing.shrink(program, broken)
            assert comparing.difference(small, broken)
            assert len(programs.render(small)) <= len(programs.render(program))
            return
    pytest.fail("nothing was found in 1,000 programs")


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
