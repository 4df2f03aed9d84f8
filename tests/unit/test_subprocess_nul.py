"""NUL bytes in what a child is started with: ValueError, and nothing is left over."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop

PIPES: dict[str, Any] = {
    "stdin": subprocess.PIPE,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
}


def descriptors() -> set[str]:
    listed = os.listdir("/proc/self/fd")
    return {number for number in listed if os.path.exists(f"/proc/self/fd/{number}")}


def children() -> set[str]:
    """The children of this process, those that nobody has waited for included."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


async def warm_up(loop: Loop) -> None:
    """What the first child of a loop needs is not left over."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "", **PIPES)
    await process.communicate()
    del process
    await next_turns(3)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["tr\0ue"], {}),
        ([b"tr\0ue"], {}),
        (["\0"], {}),
        (["true", "a\0b"], {}),
        (["true", b"a\0"], {}),
        (["true"], {"executable": "tr\0ue"}),
        (["true"], {"cwd": "/\0"}),
        (["true"], {"cwd": b"/tmp\0"}),
        (["true"], {"env": {"A\0": "b"}}),
        (["true"], {"env": {"A": "b\0"}}),
        (["true"], {"env": {b"A": b"\0"}}),
        (["true"], {"env": {"A=B": "C"}}),
    ],
)
async def test_arguments(loop: Loop, arguments: list[Any], options: dict[str, Any]) -> None:
    by_streams: Any = asyncio.create_subprocess_exec
    by_protocol: Any = loop.subprocess_exec
    with pytest.raises(ValueError) as expected:
        subprocess.Popen(arguments, **options)
    await warm_up(loop)
    before, before_children = descriptors(), children()
    for _ in range(3):
        with pytest.raises(ValueError) as raised:
            await by_streams(*arguments, **options, **PIPES)
        assert raised.value.args == expected.value.args
        with pytest.raises(ValueError):
            await by_protocol(asyncio.SubprocessProtocol, *arguments, **options, **PIPES)
    del raised
    await next_turns(3)
    assert descriptors() == before
    assert children() == before_children
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("command", ["echo a\0b", b"echo a\0b", "\0"])
async def test_commands(loop: Loop, command: Any) -> None:
    await warm_up(loop)
    before, before_children = descriptors(), children()
    with pytest.raises(ValueError, match="embedded null byte"):
        await asyncio.create_subprocess_shell(command, **PIPES)
    with pytest.raises(ValueError, match="embedded null byte"):
        await loop.subprocess_shell(asyncio.SubprocessProtocol, command, **PIPES)
    await next_turns(3)
    assert descriptors() == before
    assert children() == before_children


async def test_the_next_child_starts(loop: Loop) -> None:
    with pytest.raises(ValueError):
        await asyncio.create_subprocess_exec("true", "\0")
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
