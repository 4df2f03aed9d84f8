"""Compares the two traces of a program, and makes a program that differs as small as it can be."""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Iterator
from typing import Any

from differential.programs import Node, Program, Writer, render
from differential.scripts import script
from differential.sides import SIDES
from differential.tracing import Seen, trace

SHRINKING_ATTEMPTS_MAX = 3000

# In how many iterations and events of a program, at most, a task of it is cancelled.
CANCELS_MAX = 100


@functools.lru_cache(maxsize=4)
def compiled(text: str) -> Any:
    """The code object of a program; half of the time of a comparison goes into making it."""
    return compile(text, "program", "exec")


def run(program: Program, names: Any, loop: str) -> Seen:
    """What the program does with these names, on asyncio's or oxloop's loop."""
    return trace(compiled(render(program)), names, loop, program.setting)


def difference(program: Program, side: str) -> list[str]:
    """The lines of a diff between the expected trace and that of `side`; empty when they agree."""
    names, loop, expected_names = SIDES[side]
    code = compiled(render(program))
    expected = trace(code, expected_names, "asyncio", program.setting).lines
    seen = trace(code, names, loop, program.setting).lines
    if expected == seen:
        return []
    return list(difflib.unified_diff(expected, seen, "asyncio", side, lineterm="", n=6))


def blocks_of(program: Program) -> Iterator[list[Node]]:
    """Every block of a program, outermost first."""

    def within(block: list[Node]) -> Iterator[list[Node]]:
        yield block
        for node in block:
            for inner in node.blocks:
                yield from within(inner)

    for task in program.tasks:
        yield from within(task)


def smaller(program: Program) -> Iterator[Program]:
    """Programs with one thing less, the largest cuts first."""
    for index in range(len(program.tasks)):
        if len(program.tasks) > 1:
            cut = copy.deepcopy(program)
            del cut.tasks[index]
            yield cut
    for place, block in enumerate(list(blocks_of(program))):
        for index, node in enumerate(block):
            cut = copy.deepcopy(program)
            del list(blocks_of(cut))[place][index]
            yield cut
            for inner in range(len(node.blocks)):
                cut = copy.deepcopy(program)
                target = list(blocks_of(cut))[place]
                target[index : index + 1] = target[index].blocks[inner]
                yield cut
    if program.setting.eager:
        cut = copy.deepcopy(program)
        cut.setting = cut.setting._replace(eager=False)
        yield cut


def shrink(program: Program, side: str) -> Program:
    """The smallest program found that still differs."""
    attempts = 0
    found = True
    while found:
        found = False
        for candidate in smaller(program):
            attempts += 1
            if attempts > SHRINKING_ATTEMPTS_MAX:
                return program
            if difference(candidate, side):
                program, found = candidate, True
                break
    return program


def with_setting(program: Program, **changes: Any) -> Program:
    """The program, run in another way."""
    return Program(**{**vars(program), "setting": program.setting._replace(**changes)})


def ways(seed: int) -> Iterator[tuple[Program, str]]:
    """The program of `seed`, as it is compared: on a clock that ticks, and on SimEventLoop.

    With ticks half of the programs run all in oxloop, a quarter each in a mixture. Every third runs
    on SimEventLoop too, with oxloop's names or asyncio's.
    """
    program = Writer(seed).program()
    names = list(SIDES)
    yield program, names[(1, 1, 2, 3)[seed % 4]]
    if seed % 3 == 0:
        yield with_setting(program, tick_s=None), names[(1, 2)[seed // 3 % 2]]


def cancelled(program: Program, side: str, victim: str) -> Iterator[Program]:
    """The program with a task that is cancelled from outside: at each of its steps in turn.

    These are, on a clock that ticks, the iterations in which anything runs; between two jobs of one
    only the program itself can do anything. On the other clock, where nothing runs in each
    iteration, they are the program's events.
    """
    seen = run(program, SIDES[side].expected, "asyncio")
    for look in seen.looks[:CANCELS_MAX]:
        yield with_setting(program, victim=victim, at_look=look)
    if program.setting.tick_s is None:
        for line in range(1, min(seen.events, CANCELS_MAX) + 1):
            yield with_setting(program, victim=victim, at_line=line)


def ways_to_cancel(seed: int) -> Iterator[tuple[Program, str]]:
    """The program of `seed`, with one of its tasks that is cancelled: in each step, in each way."""
    for program, side in ways(seed):
        victims = ["main", *(f"task{number}" for number in range(len(program.tasks)))]
        for tried in cancelled(program, side, victims[seed % len(victims)]):
            yield tried, side


def first_report(origin: str, tried: Iterator[tuple[Program, str]]) -> str | None:
    """A report about the first of some programs that differs, which is a script; or None."""
    for program, side in tried:
        if difference(program, side):
            program = shrink(program, side)
            # A trace may differ because of what shrinking left out; it is looked at once more.
            lines = difference(program, side) or ["the difference is gone, looked at once more"]
            return script(program, side, origin, lines)
    return None


def check(seed: int) -> str | None:
    """What is different in the program of `seed`: a report, or None."""
    return first_report(f"seed {seed}", ways(seed))


def check_cancels(seed: int) -> str | None:
    """What is different when a task of the program of `seed` is cancelled: a report, or None."""
    return first_report(f"seed {seed}, with a task cancelled", ways_to_cancel(seed))
