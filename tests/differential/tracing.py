"""Runs a program in one namespace and on one loop, and writes down all that it does.

A trace has a line for each event: the task that runs, the virtual time, the context variables, what
happened and with which values. A call of the exception handler is an event, except for reports of
exceptions that nobody retrieved: these are made when a task or future is collected, which is at
once if nothing refers to it and later if it is in a cycle, and asyncio leaves cycles where oxloop
leaves none (docs/differences.md). They come last, in the order of their text.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import sys
import warnings
from typing import Any, NamedTuple

from differential.sides import new_loop

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_REPR = re.compile(r"<.*>")
_HELPER = re.compile(r"Task-\d+")

# How often a program that is stuck is cancelled. What waits for a lock in order to end a wait for a
# condition cannot be.
STUCK_MAX = 12

# No delay of a program is longer.
DELAY_S_MAX = 4.25


class ProgramError(Exception):
    """What programs raise."""


class BadAwaitable:
    """Yields what no task can wait for."""

    def __await__(self) -> Any:
        yield "bad"


def describe(value: object) -> str:
    """A value, without anything that differs from run to run."""
    if isinstance(value, BaseExceptionGroup):
        inner = ", ".join(describe(error) for error in value.exceptions)
        return f"{type(value).__name__}({inner})"
    if isinstance(value, BaseException):
        inner = ", ".join(describe(part) for part in value.args)
        cause = f" from {type(value.__cause__).__name__}" if value.__cause__ else ""
        return f"{type(value).__name__}({inner}){cause}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(describe(part) for part in value)}]"
    if isinstance(value, asyncio.Future):
        return f"<{type(value).__name__}>"
    if isinstance(value, str):
        return _HELPER.sub("Task-", _REPR.sub("<>", _ADDRESS.sub("0x", value)))
    return _HELPER.sub("Task-", _REPR.sub("<>", _ADDRESS.sub("0x", repr(value))))


class Setting(NamedTuple):
    """How a program is run, besides its text.

    eager: tasks start eagerly.
    tick_s: by how many seconds the clock moves when nothing else happens; None: as far as the next
        deadline.
    victim: the name of a task that is cancelled from outside.
    at_line: when: in the event of this number.
    at_look: or when: at this time, in the iteration of this number at that time.
    """

    eager: bool
    tick_s: float | None
    victim: str | None = None
    at_line: int | None = None
    at_look: tuple[float, int] | None = None


class Seen(NamedTuple):
    """What a run brought: its trace, and at which points a task may be cancelled."""

    lines: list[str]
    events: int
    looks: list[tuple[float, int]]


def trace(code: Any, aio: Any, whose: str, setting: Setting) -> Seen:
    """Run the program whose compiled module is `code`, with the names of `aio`.

    Args:
        code: the code object of what `programs.render` returns.
        aio: the namespace, `asyncio` or `oxloop`.
        whose: whose loop the program runs on, "asyncio" or "oxloop".
        setting: how it is run.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Where collections happen would depend on how many objects an implementation makes.
        gc.disable()
        # The collections at the end need not look at what was there before.
        gc.freeze()
        try:
            return _trace(code, aio, whose, setting)
        finally:
            # Loops that stay would all be asked for their tasks.
            gc.collect()
            gc.unfreeze()
            gc.enable()
            sys.unraisablehook = hook


def _trace(code: Any, aio: Any, whose: str, setting: Setting) -> Seen:
    lines: list[str] = []
    late: list[str] = []
    looks: list[tuple[float, int]] = []
    tasks: dict[str, Any] = {}
    main: list[Any] = []
    variables = [contextvars.ContextVar(name, default=0) for name in ("first", "second")]
    loop = new_loop(whose, setting.tick_s)
    events = 0
    unstuck: list[int] = []

    def values() -> str:
        return " ".join(str(variable.get()) for variable in variables)

    def log(what: str, *given: object) -> None:
        nonlocal events
        running = asyncio.current_task(loop)
        name = "-" if running is None else describe(running.get_name())
        # asyncio up to 3.13.2 calls tasks of a factory "None" that were given no name.
        name = "Task-" if name == "None" else name
        inner = " ".join(describe(value) for value in given)
        lines.append(f"{loop.time():.9f} {name} [{values()}] {what} {inner}")
        events += 1
        if events == setting.at_line:
            cancel()

    def report(_loop: object, given: dict[str, Any]) -> None:
        message = given["message"]
        line = f"handler: {describe(message)} {describe(given.get('exception'))} [{values()}]"
        (late if "never retrieved" in message else lines).append(line)

    def cancel() -> None:
        found = main[0] if setting.victim == "main" else tasks.get(setting.victim or "")
        if found is not None:
            lines.append(f"{setting.victim} is cancelled: {found.cancel('from outside')}")

    def looked(time_s: float, number: int, is_busy: bool) -> None:
        if is_busy:
            looks.append((time_s, number))
        if (time_s, number) == setting.at_look:
            cancel()

    def unstick() -> bool:
        """Cancel what is left, in a known order."""
        log("stuck")
        pending = [task for task in tasks.values() if not task.done()]
        for task in pending or main:
            task.cancel("stuck")
        unstuck.append(len(pending))
        return len(unstuck) < STUCK_MAX

    names: dict[str, Any] = {"ProgramError": ProgramError, "BadAwaitable": BadAwaitable}
    try:
        exec(code, names)
        loop.set_exception_handler(report)
        if setting.eager:
            loop.set_task_factory(aio.eager_task_factory)
        body = names["program"](aio, loop, log, tasks, variables)
        main.append(aio.Task(body, loop=loop, name="main"))
        loop.start_clock(setting.tick_s, unstick, looked)
        try:
            loop.run(main[0])
        except BaseException as error:
            lines.append(f"main: {describe(error)}")
        _end(loop, tasks, main[0], lines)
        # What is dropped from here on is dropped in no particular order.
        seen = Seen(lines.copy(), events, looks)
        if whose == "asyncio":
            loop.held[:] = asyncio.all_tasks(loop)
        gc.collect()
        if asyncio.all_tasks(loop):
            # What never ends keeps exceptions, in cycles under asyncio (docs/differences.md), and
            # oxloop's loop holds it to the end, when nobody is told any more. So who was told of
            # an exception that nobody asked for, and when, says nothing.
            late.clear()
            loop.set_exception_handler(lambda _loop, _given: None)
        names.clear()
        tasks.clear()
        main.clear()
        if whose == "asyncio":
            loop.held.clear()
        del body
        gc.collect()
    finally:
        loop.close()
    return seen._replace(lines=seen.lines + sorted(late))


def _end(loop: Any, tasks: dict[str, Any], main: Any, lines: list[str]) -> None:
    """Cancel what a program left behind, and write down how it ended."""
    for _ in range(20):
        pending = [task for task in [*tasks.values(), main] if not task.done()]
        if not pending:
            break
        for task in pending:
            task.cancel("end")
        try:
            loop.run(_pauses())
        except BaseException as error:
            lines.append(f"end: {describe(error)}")
    # The tasks of `shield` and the like that nobody waits for any more have time to end.
    for _ in range(5):
        if not asyncio.all_tasks(loop):
            break
        loop.run(asyncio.sleep(DELAY_S_MAX))
    # asyncio ends generators in the order of their addresses.
    before = len(lines)
    loop.run(loop.shutdown_asyncgens())
    lines[before:] = sorted(lines[before:])
    for name, task in tasks.items():
        if not task.done():
            how = "pending"
        elif task.cancelled():
            how = "cancelled"
        else:
            how = describe(task.exception() or task.result())
        lines.append(f"{name}: {how}")


async def _pauses() -> None:
    for _ in range(30):
        await asyncio.sleep(0)
