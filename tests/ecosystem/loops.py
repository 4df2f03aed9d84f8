"""Which event loops the ecosystem tests run on, and how a test runs on one of them.

Facts. Libraries are indifferent to the loop only as long as it behaves like asyncio's; so every
test runs on asyncio first and then on oxloop, with the same assertions. A test that silently ran
on the wrong loop would prove nothing. A library that leaks a socket or whose callback fails in
the background still returns the right answers.

Decision. `run_on` and `run_anyio_on` check that the running loop is the one asked for, collect
everything that reaches the loop's exception handler, and compare the process's sockets before
and after; a report or a socket left over fails the test.

What can still go wrong: a leak of memory, or of a file that is no socket, is not seen here.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

LOOPS_VARIABLE = "OXLOOP_TESTS_LOOPS"
LOOPS_DEFAULT = "asyncio,oxloop"
TEST_LIMIT_S = 30.0

UVLOOP_COMMAND = (
    "import runpy, sys, uvloop; uvloop.install(); del sys.argv[0]; "
    "sys.path[0] = __import__('os').path.dirname(sys.argv[0]); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


@dataclass(frozen=True)
class LoopKind:
    """One event loop under test.

    `name` is the module that offers it; `factory` makes a new loop, without arguments.
    """

    name: str
    factory: Callable[[], asyncio.AbstractEventLoop]

    @property
    def module(self) -> Any:
        """The module with `run`: asyncio, oxloop or uvloop."""
        return importlib.import_module(self.name)

    @property
    def factory_path(self) -> str:
        """The factory as `module:name`, the form that uvicorn's --loop takes."""
        if self.name == "asyncio":
            return "asyncio:SelectorEventLoop"
        return f"{self.name}:new_event_loop"

    def command(self, program: str) -> list[str]:
        """The command line that starts `program`, a path, on this loop without changing it."""
        if self.name == "asyncio":
            return [sys.executable, program]
        if self.name == "oxloop":
            return [sys.executable, "-m", "oxloop", "run", program]
        return [sys.executable, "-c", UVLOOP_COMMAND, program]

    def check(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise AssertionError unless `loop` is a loop of this kind."""
        assert self.describes(type(loop)), f"{type(loop)} is not the loop of {self.name}"

    def describes(self, loop_type: type) -> bool:
        """Whether `loop_type` belongs to this kind: its package is the module's."""
        return loop_type.__module__.partition(".")[0] == self.name


def loop_kinds() -> list[LoopKind]:
    """The loops named by OXLOOP_TESTS_LOOPS (comma-separated), by default asyncio and oxloop.

    A loop that is named and cannot be imported is an error, never a skip.
    """
    kinds = []
    for name in os.environ.get(LOOPS_VARIABLE, LOOPS_DEFAULT).split(","):
        name = name.strip()
        if name == "asyncio":
            kinds.append(LoopKind(name, asyncio.SelectorEventLoop))
        elif name in ("oxloop", "uvloop"):
            kinds.append(LoopKind(name, importlib.import_module(name).new_event_loop))
        else:
            raise ValueError(f"{LOOPS_VARIABLE}: unknown loop {name!r}")
    return kinds


def open_sockets() -> set[tuple[int, int]]:
    """The sockets that this process has open, as pairs of fd and inode."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(int(entry))
        except OSError:
            continue  # the listing's own fd
        if stat.S_ISSOCK(status.st_mode):
            found.add((int(entry), status.st_ino))
    return found


class Watch:
    """Collects what went wrong behind a test's back; `finish` fails the test if anything did."""

    def __init__(self, kind: LoopKind) -> None:
        self.kind = kind
        self.reports: list[dict[str, Any]] = []
        self.entered = False
        self.sockets_before = open_sockets()

    def enter(self) -> None:
        """Check the running loop and take over its exception handler."""
        loop = asyncio.get_running_loop()
        self.kind.check(loop)
        loop.set_exception_handler(lambda _loop, context: self.reports.append(context))
        self.entered = True

    def finish(self) -> None:
        """Raise AssertionError for a report to the exception handler or a socket left open."""
        gc.collect()
        assert self.entered, "the test never ran"
        assert not self.reports, f"reported to the exception handler: {self.reports}"
        left_over = open_sockets() - self.sockets_before
        assert not left_over, f"sockets left open: {left_over}"


def run_on(kind: LoopKind, main: Coroutine[Any, Any, ResultT], *, debug: bool = False) -> ResultT:
    """Run `main` on a new loop of `kind` and return its result.

    Raises what `main` raises, TimeoutError after TEST_LIMIT_S seconds, and AssertionError for
    what `Watch.finish` finds.
    """
    watch = Watch(kind)

    async def watched() -> ResultT:
        watch.enter()
        async with asyncio.timeout(TEST_LIMIT_S):
            return await main

    with asyncio.Runner(loop_factory=kind.factory, debug=debug) as runner:
        result = runner.run(watched())
    watch.finish()
    return result


def run_anyio_on(kind: LoopKind, main: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Run the coroutine function `main` by `anyio.run`; in all else as `run_on`."""
    import anyio

    watch = Watch(kind)

    async def watched() -> ResultT:
        watch.enter()
        with anyio.fail_after(TEST_LIMIT_S):
            return await main()

    result = anyio.run(watched, backend_options={"loop_factory": kind.factory})
    watch.finish()
    return result


async def stalled(count: Callable[[], int]) -> int:
    """Wait until `count()` is above zero and has not changed for 0.1 s; return it.

    For a writer that its reader holds back: that nothing more happens can only be seen by
    looking again. A busy machine may make this return early, hence a lower count, never a wrong
    failure.
    """
    seen, unchanged = 0, 0
    while unchanged < 10:
        await asyncio.sleep(0.01)
        unchanged = unchanged + 1 if count() == seen > 0 else 0
        seen = count()
    return seen
