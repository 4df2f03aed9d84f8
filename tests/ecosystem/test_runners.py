"""Who starts the loop: asyncio.Runner, `run`, unittest, pytest-asyncio, AnyIO's pytest plugin."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import unittest
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .loops import LoopKind

PYTEST_LIMIT_S = 50


def test_runner_keeps_loop_and_context(kind: LoopKind) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def count() -> tuple[int, asyncio.AbstractEventLoop]:
        variable.set(variable.get() + 1)
        await asyncio.sleep(0)
        return variable.get(), asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=kind.factory) as runner:
        seen = [runner.run(count()) for _ in range(3)]
        loop = runner.get_loop()
        kind.check(loop)
    assert [number for number, _ in seen] == [1, 2, 3]
    assert {running for _, running in seen} == {loop}
    assert loop.is_closed()
    assert variable.get() == 0


def test_runner_cleans_up(kind: LoopKind) -> None:
    """Tasks that are left are cancelled, generators closed and executor threads ended, in order."""
    steps: list[str] = []
    kept: list[Any] = []

    async def generator() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            steps.append("generator closed")

    async def left_over() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("task cancelled")

    async def main() -> int:
        kept.append(asyncio.create_task(left_over()))
        kept.append(generator())
        await anext(kept[1])
        return await asyncio.to_thread(lambda: 7)

    with asyncio.Runner(loop_factory=kind.factory) as runner:
        assert runner.run(main()) == 7
    assert steps == ["task cancelled", "generator closed"]
    assert kept[0].cancelled()


def test_run_of_the_module(kind: LoopKind) -> None:
    async def main() -> str:
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert kind.module.run(main()) == kind.name

    async def fail() -> None:
        raise LookupError("as it is")

    with pytest.raises(LookupError, match="as it is"):
        kind.module.run(fail())


def test_run_inside_a_running_loop_is_refused(kind: LoopKind) -> None:
    if kind.name == "uvloop":
        pytest.skip("uvloop.run leaves a coroutine of its own unawaited")

    async def outer() -> None:
        inner = asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            kind.module.run(inner)
        inner.close()

    kind.module.run(outer())


def test_many_loops_one_after_the_other(kind: LoopKind) -> None:
    async def main(n: int) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, n)) for _ in range(10)]
        return sum(task.result() for task in tasks)

    for n in range(100):
        with asyncio.Runner(loop_factory=kind.factory) as runner:
            assert runner.run(main(n)) == 10 * n


@pytest.fixture
def unittest_loops(kind: LoopKind, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make IsolatedAsyncioTestCase use the loop under test.

    Since 3.13 a class says so by `loop_factory`; before, the policy decides.
    """
    if sys.version_info >= (3, 13):
        monkeypatch.setattr(
            unittest.IsolatedAsyncioTestCase, "loop_factory", staticmethod(kind.factory)
        )
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.DefaultEventLoopPolicy()
        policy.new_event_loop = kind.factory
        asyncio.set_event_loop_policy(policy)
        yield
        asyncio.set_event_loop_policy(None)


@pytest.mark.usefixtures("unittest_loops")
def test_isolated_asyncio_test_case(kind: LoopKind) -> None:
    steps: list[str] = []

    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self) -> None:
            kind.check(asyncio.get_running_loop())
            self.loop = asyncio.get_running_loop()
            self.addAsyncCleanup(self.clean_up)
            steps.append("set up")

        async def clean_up(self) -> None:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is self.loop
            steps.append("cleaned up")

        async def test_passes(self) -> None:
            await asyncio.sleep(0)
            self.assertIs(asyncio.get_running_loop(), self.loop)
            steps.append("tested")

        async def test_sees_failures(self) -> None:
            await asyncio.sleep(0)
            self.fail("on purpose")

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert (result.testsRun, len(result.failures), result.errors) == (2, 1, [])
    assert steps == ["set up", "tested", "cleaned up", "set up", "cleaned up"]


def run_pytest(folder: Path, files: dict[str, str], *options: str) -> str:
    """Run pytest in `folder` on `files`, apart from this run, and return its output."""
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PYTEST_LIMIT_S
    )
    return done.stdout + done.stderr


def test_pytest_asyncio(kind: LoopKind, tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    factories = f"""
        import {kind.name}

        def pytest_asyncio_loop_factories(config, item):
            return {{"tested": {kind.factory_path.replace(":", ".")}}}
    """
    tests = f"""
        import asyncio
        import pytest
        import pytest_asyncio

        @pytest_asyncio.fixture
        async def server():
            async def echo(reader, writer):
                writer.write(await reader.readline())
                writer.close()
            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                yield server

        @pytest.mark.asyncio
        async def test_loop():
            loop = asyncio.get_running_loop()
            assert type(loop).__module__.partition(".")[0] == {kind.name!r}

        @pytest.mark.asyncio
        async def test_fixture(server):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"line\\n")
            assert await reader.read() == b"line\\n"
            writer.close()
            await writer.wait_closed()

        @pytest.mark.asyncio
        async def test_that_fails():
            await asyncio.sleep(0)
            assert False, "on purpose"
    """
    output = run_pytest(tmp_path, {"conftest.py": factories, "test_it.py": tests})
    assert "1 failed, 2 passed" in output and "on purpose" in output, output


def test_anyio_plugin(kind: LoopKind, tmp_path: Path) -> None:
    pytest.importorskip("anyio")
    tests = f"""
        import asyncio
        import anyio
        import pytest
        import {kind.name}

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {{"loop_factory": {kind.factory_path.replace(":", ".")}}}

        @pytest.fixture
        async def group(anyio_backend):
            async with anyio.create_task_group() as group:
                yield group
                group.cancel_scope.cancel()

        @pytest.mark.anyio
        async def test_loop(group):
            loop = asyncio.get_running_loop()
            assert type(loop).__module__.partition(".")[0] == {kind.name!r}
            group.start_soon(anyio.sleep_forever)
            await anyio.wait_all_tasks_blocked()

        @pytest.mark.anyio
        async def test_that_fails():
            await anyio.sleep(0)
            assert False, "on purpose"
    """
    output = run_pytest(tmp_path, {"test_it.py": tests}, "-p", "no:asyncio")
    assert "1 failed, 1 passed" in output and "on purpose" in output, output


def test_fastapi_test_client(kind: LoopKind, capsys: pytest.CaptureFixture[str]) -> None:
    """Starlette's TestClient runs the application on a loop in another thread."""
    pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    from .programs.fastapi_app import app

    options = {"loop_factory": kind.factory}
    with testclient.TestClient(app, backend_options=options) as client:
        assert client.get("/threads", params={"n": 9}).json() == 81
        with client.websocket_connect("/echo") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"LIFESPAN BEGINS {kind.name}.")
    assert lines[-1] == "LIFESPAN ENDS"


def test_greenlets_switch_inside_callbacks(run: Callable[..., Any]) -> None:
    """As SQLAlchemy does it: synchronous code in a greenlet awaits through its parent."""
    greenlet = pytest.importorskip("greenlet")

    async def spawn(function: Callable[[Callable[[Any], Any]], Any]) -> Any:
        def wait(awaitable: Any) -> Any:
            return context.parent.switch(awaitable)

        context = greenlet.greenlet(function)
        value = context.switch(wait)
        while not context.dead:
            try:
                result = await value
            except BaseException as error:
                value = context.throw(error)
            else:
                value = context.switch(result)
        return value

    async def main() -> None:
        def synchronous(wait: Callable[[Any], Any]) -> list[int]:
            results = [wait(asyncio.sleep(0.001, n)) for n in range(20)]
            with pytest.raises(TimeoutError):
                wait(asyncio.wait_for(asyncio.Event().wait(), 0.001))
            return results

        results = await asyncio.gather(*(spawn(synchronous) for _ in range(50)))
        assert results == [list(range(20))] * 50

    run(main())
