"""The package's own names: run, Runner, new_event_loop, EventLoopPolicy, install."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import oxloop
import pytest
from programs import python


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_all_names_are_there() -> None:
    assert [name for name in oxloop.__all__ if not hasattr(oxloop, name)] == []
    assert set(oxloop.__all__) <= set(dir(oxloop))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        oxloop.nothing  # noqa: B018


def test_new_event_loop() -> None:
    loop = oxloop.new_event_loop()
    try:
        assert type(loop) is oxloop.EventLoop
        assert isinstance(loop, asyncio.AbstractEventLoop)
    finally:
        loop.close()


def test_run() -> None:
    loop = oxloop.run(running_loop())
    assert type(loop) is oxloop.EventLoop
    assert loop.is_closed()


def test_run_debug() -> None:
    async def debug() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert oxloop.run(debug(), debug=True) is True
    assert oxloop.run(debug(), debug=False) is False


def test_run_within_a_running_loop_is_refused() -> None:
    async def nested() -> None:
        inner = running_loop()
        try:
            text = r"asyncio\.run\(\) cannot be called from a running event loop"
            with pytest.raises(RuntimeError, match=text):
                oxloop.run(inner)
        finally:
            inner.close()

    oxloop.run(nested())


def test_what_is_no_coroutine_is_refused_as_by_asyncio() -> None:
    def refused_by(run: object) -> tuple[type[BaseException], str]:
        with pytest.raises((ValueError, TypeError)) as caught:
            run(5)  # type: ignore[operator]
        return caught.type, str(caught.value)

    assert refused_by(oxloop.run) == refused_by(asyncio.run)


def test_runner() -> None:
    with oxloop.Runner() as runner:
        assert isinstance(runner, asyncio.Runner)
        assert type(runner.get_loop()) is oxloop.EventLoop
        assert runner.run(running_loop()) is runner.get_loop()


def test_runner_takes_another_factory() -> None:
    with oxloop.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert not isinstance(runner.get_loop(), oxloop.EventLoop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has a loop_factory since 3.12")
def test_as_the_factory_of_asyncio_run() -> None:
    loop = asyncio.run(running_loop(), loop_factory=oxloop.new_event_loop)  # type: ignore
    assert type(loop) is oxloop.EventLoop


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="no policies since 3.16")
@pytest.mark.parametrize(
    "how", ["oxloop.install()", "asyncio.set_event_loop_policy(oxloop.EventLoopPolicy())"]
)
def test_install(tmp_path: Path, how: str) -> None:
    (tmp_path / "program.py").write_text(
        f"""
import asyncio, warnings
import oxloop
with warnings.catch_warnings():
    if "set_event" in {how!r}:
        warnings.simplefilter("ignore", DeprecationWarning)
    {how}
async def main():
    assert type(asyncio.get_running_loop()) is oxloop.EventLoop
asyncio.run(main())
loop = asyncio.new_event_loop()
assert type(loop) is oxloop.EventLoop
loop.close()
print("ok")
"""
    )
    ended = python("-W", "error", "program.py", cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == ("ok\n", "")


def test_import_warns_of_nothing_and_makes_no_policy(tmp_path: Path) -> None:
    code = "import sys, oxloop; print('oxloop._policy' in sys.modules)"
    ended = python("-W", "error", "-c", code, cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == ("False\n", "")
