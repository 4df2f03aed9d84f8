"""Fixtures shared by the tests: each loop by name, one loop per test, scenarios in children.

- `loop_name`, `loop_factory`: every test that asks for one runs once per loop under test
  (`loops.names`). A loop that cannot be imported stops the whole run.
- `loop`: a fresh loop. An ``async def`` test with this fixture runs on it. What the loop's
  exception handler is given is collected in `errors`; a test that expects reports takes them
  out of the list, and anything left at the end fails the test, so that no error is lost.
- `in_child`: runs a module-level function of the test file in its own process, where a crash
  is thinkable or the process's state (limits, signals, descriptors) is changed.
"""

import asyncio
import gc
import inspect
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

TESTS = Path(__file__).resolve().parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

import loops  # noqa: E402

CHILD_TIMEOUT_S = 50
CONTROL_ATTEMPTS = 3
REPEATED = pytest.StashKey[list[str]]()
LOOP_TIMEOUT_S = 30


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run at all if a loop under test cannot be imported."""
    for name in loops.names():
        try:
            loops.factory(name)
        except (ImportError, AttributeError) as error:
            raise pytest.UsageError(f"the event loop {name!r} cannot be tested: {error}") from error


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test that has none a time limit which a stuck loop cannot block."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60, method="thread"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a failing control again: asyncio has races of its own; a wrong test fails each time.

    The end of the run says which were.
    """
    if not _is_control(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(CONTROL_ATTEMPTS):
        if attempt:
            item.config.stash.setdefault(REPEATED, []).append(item.nodeid)
            item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _is_control(item: pytest.Item) -> bool:
    """Whether the test runs on asyncio's loop with asyncio's names, which say what is right."""
    if not hasattr(item, "callspec") or "oxloop" in item.callspec.id:
        return False
    params = item.callspec.params
    return any(
        getattr(params.get(name), "name", params.get(name)) == "asyncio"
        for name in ("loop_name", "kind")
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the controls that failed and were run again."""
    for name in config.stash.get(REPEATED, []):
        terminalreporter.write_line(f"asyncio itself failed, and was run again: {name}")


def pytest_collection_finish() -> None:
    """Let the collector pass over what is there before the first test.

    Many tests collect; without this each would visit the objects of pytest and of every test.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=loops.names())
def loop_name(request: pytest.FixtureRequest) -> str:
    """The name of the event loop under test."""
    return request.param


@pytest.fixture
def loop_factory(loop_name: str) -> loops.Factory:
    """The function that makes a loop of the kind under test."""
    return loops.factory(loop_name)


@pytest.fixture
def errors() -> list[dict[str, Any]]:
    """The contexts that the exception handler of `loop` was called with."""
    return []


@pytest.fixture
def loop(
    loop_factory: loops.Factory, errors: list[dict[str, Any]]
) -> Iterator[asyncio.AbstractEventLoop]:
    """A fresh loop of the kind under test, closed in the end; reports left over fail the test."""
    loop = loop_factory()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    try:
        yield loop
    finally:
        if not loop.is_closed():
            _finish(loop)
            loop.close()
    assert errors == [], "the exception handler was called"


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is still pending and end the loop's generators and threads."""
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    if pending:
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on its `loop`."""
    loop = pyfuncitem.funcargs.get("loop")
    if loop is None or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}

    async def limited() -> None:
        async with asyncio.timeout(LOOP_TIMEOUT_S):
            await pyfuncitem.obj(**arguments)

    loop.run_until_complete(limited())
    return True


class OwnObject(ssl.SSLObject):
    """A program's own class of TLS connections."""


@pytest.fixture(params=["plain", "own class"])
def connection_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """TLS by `ssl`'s own class, which oxloop may serve past its methods, and by a program's."""
    if request.param == "own class":
        monkeypatch.setattr(ssl.SSLContext, "sslobject_class", OwnObject)
    return request.param


@pytest.fixture
def in_child(loop_name: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a module-level function of a test file in a process of its own.

    Called with the function, which gets the loop factory as its only argument, and with
    further environment variables by keyword. Fails with all output of the child if that ends
    otherwise than with status 0; returns the finished process, whose `stdout` is the trace.
    """

    def run(scenario: Callable[..., object], **env: str) -> subprocess.CompletedProcess[str]:
        path = inspect.getsourcefile(scenario)
        assert path is not None
        arguments = [sys.executable, "-X", "faulthandler", str(TESTS / "child.py")]
        done = subprocess.run(
            [*arguments, path, scenario.__name__, loop_name],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"status {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done

    return run
