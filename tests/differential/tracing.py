"""Runs a program in one namespace and on one loop, and writes down all that it does.

A trace has a line for each event: the task that runs, the virtual time, the context variable, what
happened and with which values. What the exception handler was given comes last, in the order of its
text, for part of it depends on when something is collected.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_REPR = re.compile(r"<.*>")
_HELPER = re.compile(r"Task-\d+")


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


def trace(
    code: Any, aio: Any, new_loop: Callable[[], Any], *, eager: bool, tick_s: float
) -> list[str]:
    """Run the program whose compiled module is `code`; returns its trace.

    Args:
        code: the code object of what `programs.render` returns.
        aio: the namespace, `asyncio` or `oxloop`.
        new_loop: makes a loop with virtual time (`virtual_loops`).
        eager: tasks start eagerly.
        tick_s: by how many seconds the clock moves when nothing else happens.
    """
    lines: list[str] = []
    reports: list[str] = []
    tasks: dict[str, Any] = {}
    main: list[Any] = []
    variable = contextvars.ContextVar("variable", default=0)
    loop = new_loop()

    def log(what: str, *values: object) -> None:
        running = asyncio.current_task(loop)
        name = "-" if running is None else describe(running.get_name())
        # asyncio up to 3.13.2 calls tasks of a factory "None" that were given no name.
        name = "Task-" if name == "None" else name
        inner = " ".join(describe(value) for value in values)
        lines.append(f"{loop.time():.9f} {name} [{variable.get()}] {what} {inner}")

    def report(_loop: object, given: dict[str, Any]) -> None:
        if given["message"] == "Task was destroyed but it is pending!":
            # oxloop's loop holds its tasks (docs/differences.md), asyncio's does not.
            return
        what = describe(given.get("exception"))
        reports.append(f"handler: {describe(given['message'])} {what} [{variable.get()}]")

    def unstick() -> bool:
        """Cancel what is left, in a known order."""
        log("stuck")
        pending = [task for task in tasks.values() if not task.done()]
        for task in pending or main:
            task.cancel("stuck")
        unstuck.append(len(pending))
        return len(unstuck) < 60

    unstuck: list[int] = []
    names: dict[str, Any] = {"ProgramError": ProgramError, "BadAwaitable": BadAwaitable}
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Where collections happen would depend on how many objects an implementation makes.
        gc.disable()
        # The collection at the end need not look at what was there before.
        gc.freeze()
        try:
            exec(code, names)
            loop.set_exception_handler(report)
            if eager:
                loop.set_task_factory(aio.eager_task_factory)
            body = names["program"](aio, loop, log, tasks, variable)
            main.append(aio.Task(body, loop=loop, name="main"))
            loop.start_clock(tick_s, unstick)
            try:
                loop.run_until_complete(main[0])
            except BaseException as error:
                lines.append(f"main: {describe(error)}")
            _end(loop, tasks, main[0], lines)
            # What is dropped from here on is dropped in no particular order.
            whole = lines.copy()
            # asyncio leaves a failed task in a cycle where oxloop does not.
            gc.collect()
            if asyncio.all_tasks(loop):
                # They are ended in no particular order, and what never ends is held by oxloop's
                # loop: what is reported from here on says nothing, and neither does whether an
                # exception nobody asked for was reported by now.
                reports[:] = [line for line in reports if "never retrieved" not in line]
                loop.set_exception_handler(lambda _loop, _given: None)
                _drop_helpers(loop)
            names.clear()
            tasks.clear()
            main.clear()
            del body
            gc.collect()
        finally:
            gc.unfreeze()
            gc.enable()
            loop.close()
            sys.unraisablehook = hook
    return whole + sorted(reports)


def _end(loop: Any, tasks: dict[str, Any], main: Any, lines: list[str]) -> None:
    """Cancel what a program left behind, and write down how it ended."""
    for _ in range(20):
        pending = [task for task in [*tasks.values(), main] if not task.done()]
        if not pending:
            break
        for task in pending:
            task.cancel("end")
        try:
            loop.run_until_complete(_pauses())
        except BaseException as error:
            lines.append(f"end: {describe(error)}")
    loop.run_until_complete(loop.shutdown_asyncgens())
    for name, task in tasks.items():
        if not task.done():
            how = "pending"
        elif task.cancelled():
            how = "cancelled"
        else:
            how = describe(task.exception() or task.result())
        lines.append(f"{name}: {how}")


def _drop_helpers(loop: Any) -> None:
    """End the tasks of `shield` and the like that nobody waits for any more."""
    for _ in range(20):
        pending = asyncio.all_tasks(loop)
        if not pending:
            return
        for task in pending:
            task.cancel()
        pending.clear()
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(_pauses())


async def _pauses() -> None:
    for _ in range(30):
        await asyncio.sleep(0)
