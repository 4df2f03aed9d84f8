"""The watch behind every ecosystem test does notice what it is there for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from .loops import LoopKind, Watch, run_on


def test_report_to_the_exception_handler_fails_a_test(run: Callable[..., Any]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(main())


def test_exception_that_nobody_retrieves_fails_a_test(run: Callable[..., Any]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().create_future().set_exception(LookupError("lost"))

    with pytest.raises(AssertionError, match="never retrieved"):
        run(main())


def test_socket_left_open_fails_a_test(run: Callable[..., Any]) -> None:
    kept: list[socket.socket] = []

    async def main() -> None:
        kept.extend(socket.socketpair())

    with pytest.raises(AssertionError, match="left open"):
        run(main())
    for one in kept:
        one.close()


def test_wrong_loop_fails_a_test(kind: LoopKind) -> None:
    class Stranger(asyncio.SelectorEventLoop):
        pass

    Stranger.__module__ = "stranger"

    async def main() -> None:
        Watch(kind).enter()

    with asyncio.Runner(loop_factory=Stranger) as runner:
        with pytest.raises(AssertionError, match="is not the loop of"):
            runner.run(main())


def test_result_and_error_pass_through(kind: LoopKind) -> None:
    async def give() -> int:
        return 42

    async def fail() -> None:
        raise LookupError("as it is")

    assert run_on(kind, give()) == 42
    with pytest.raises(LookupError, match="as it is"):
        run_on(kind, fail())
