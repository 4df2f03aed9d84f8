"""Compares the two traces of a program, and makes a program that differs as small as it can be."""

from __future__ import annotations

import asyncio
import copy
import difflib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import oxloop

from differential.programs import Node, Program, Writer, render
from differential.tracing import trace
from differential.virtual_loops import AsyncioLoop, OxloopLoop


class InOrder(dict[Any, None]):
    """A set that is iterated in the order in which it was filled."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.keys()))


class TaskGroup(asyncio.TaskGroup):
    """asyncio's, that cancels its tasks in the order in which they were made, not by address.

    As in 3.14, and in oxloop, it hears of an eager task that is done at once by a callback, and not
    within `create_task`.
    """

    _creating = False

    def __init__(self) -> None:
        super().__init__()
        self._tasks = InOrder()  # type: ignore[assignment]

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        before, self._creating = self._creating, True
        try:
            return super().create_task(coro, **options)
        finally:
            self._creating = before

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        if self._creating:
            self._tasks.add(task)
            task.add_done_callback(self._on_task_done)
        else:
            super()._on_task_done(task)  # type: ignore[misc]


class Timeout(asyncio.Timeout):  # type: ignore[misc]  # final to type checkers only
    """asyncio's, that leaves a cancellation alone which was requested before the block.

    As in oxloop (docs/differences.md, python/cpython#134471).
    """

    _expected = _overtaken = False

    def _is_being_cancelled(self) -> bool:
        task: Any = self._task
        waiter = task._fut_waiter
        return task._must_cancel or (waiter is not None and waiter.cancelled())

    async def __aenter__(self) -> Any:
        entered = await super().__aenter__()
        self._expected = self._is_being_cancelled()
        return entered

    def _on_timeout(self) -> None:
        self._overtaken = self._expected and self._is_being_cancelled()
        super()._on_timeout()  # type: ignore[misc]

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> bool | None:
        try:
            return await super().__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._overtaken:
                return None
            raise


def timeout(delay: float | None) -> Timeout:
    """`asyncio.timeout`, of the class above."""
    loop = asyncio.get_running_loop()
    return Timeout(None if delay is None else loop.time() + delay)


STANDARD = SimpleNamespace(**{**vars(asyncio), "TaskGroup": TaskGroup, "timeout": timeout})

OURS: Any = oxloop
if oxloop.TaskGroup is asyncio.TaskGroup:
    OURS = SimpleNamespace(**{**vars(oxloop), "TaskGroup": TaskGroup})

# Namespace and loop; the first is what is right.
SIDES = {
    "asyncio": (STANDARD, AsyncioLoop),
    "oxloop": (OURS, OxloopLoop),
    "asyncio's names on oxloop's loop": (STANDARD, OxloopLoop),
    "oxloop's names on asyncio's loop": (OURS, AsyncioLoop),
}
SHRINKING_ATTEMPTS_MAX = 3000

# How often a program is run before its traces are taken to differ.
ATTEMPTS = 6


def difference(program: Program, side: str) -> list[str]:
    """The lines of a diff between asyncio's trace and that of `side`; empty when they agree.

    asyncio keeps tasks and futures in sets here and there, whose order is that of addresses. So a
    program whose traces differ is run again, and it counts only if no trace of one side is among
    those of the other.
    """
    code = compile(render(program), "program", "exec")
    traces: list[list[list[str]]] = [[], []]
    for attempt in range(ATTEMPTS):
        for tried, name in zip(traces, ("asyncio", side)):
            # Other objects at other addresses.
            spread = [bytearray(64 * number) for number in range(attempt * 50)]
            aio, new_loop = SIDES[name]
            tried.append(trace(code, aio, new_loop, eager=program.eager, tick_s=program.tick_s))
            spread.clear()
            tried[-1] = [line for line in tried[-1] if not explained(line, program, side)]
        if any(one in traces[1] for one in traces[0]):
            return []
    return list(difflib.unified_diff(traces[0][0], traces[1][0], "asyncio", side, lineterm="", n=6))


def explained(line: str, program: Program, side: str) -> bool:
    """Whether a line of a trace may differ.

    On a loop that is not oxloop's, the outer future of a `shield` lets go of the inner one at once
    when it is cancelled, and not an iteration later; an exception that comes in between is reported
    instead of dropped.
    """
    shields = {"shield", "await_shielded"}
    return (
        side == "oxloop's names on asyncio's loop"
        and line.startswith("handler: Task exception was never retrieved")
        and any(node.kind in shields for block in blocks_of(program) for node in block)
    )


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
    if program.eager:
        cut = copy.deepcopy(program)
        cut.eager = False
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


def side_of(seed: int) -> str:
    """Half of the programs run all in oxloop, a quarter each in a mixture."""
    return list(SIDES)[(1, 1, 2, 3)[seed % 4]]


def check(seed: int) -> str | None:
    """What is different in the program of `seed`: a report with a script, or None."""
    program = Writer(seed).program()
    side = side_of(seed)
    if not difference(program, side):
        return None
    program = shrink(program, side)
    # A trace may differ because of what shrinking left out; it is looked at once more.
    lines = difference(program, side) or ["the difference is gone when it is looked at again"]
    return "\n".join(
        [
            f"# seed {seed}: {side} differs from asyncio. Run it by",
            f"#     python -m differential {seed}       (in the folder tests)",
            f"# eager={program.eager} tick_s={program.tick_s}",
            render(program),
            *(f"# {line}" for line in lines),
        ]
    )
