"""Pipelines of a thousand processes at a time, by `asyncio.create_subprocess_*`.

Each stage's output is the next one's input; what was written at one end must come out at the
other, and every process be waited for. All of them run at once.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PIPELINES = 100
STAGES = 10
BLOCK = bytes(range(256)) * 256


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for a pidfd each, and for the pipes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} descriptors are allowed here, not {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def pipeline(number: int, stages: int) -> bytes:
    """`cat | cat | …`: what comes out of the last one."""
    processes = []
    upstream: int = asyncio.subprocess.PIPE
    for stage in range(stages):
        last = stage == stages - 1
        reading, writing = (None, asyncio.subprocess.PIPE) if last else os.pipe()
        # Every other stage by the shell.
        start: Any = (
            asyncio.create_subprocess_exec if stage % 2 else asyncio.create_subprocess_shell
        )
        processes.append(await start("/bin/cat", stdin=upstream, stdout=writing))
        if stage:
            os.close(upstream)
        if reading is not None:
            os.close(writing)
            upstream = reading
    source, sink = processes[0].stdin, processes[-1].stdout
    assert source is not None and sink is not None

    async def feed() -> None:
        source.write(b"%d:" % number + BLOCK)
        await source.drain()
        source.close()

    _, received = await asyncio.gather(feed(), sink.read())
    assert [await process.wait() for process in processes] == [0] * stages
    return received


def test_a_thousand_processes_in_pipelines(run: Callable[..., Any], many_descriptors: None) -> None:
    async def main() -> None:
        numbers = range(PIPELINES)
        outputs = await asyncio.gather(*[pipeline(number, STAGES) for number in numbers])
        assert outputs == [b"%d:" % number + BLOCK for number in numbers]

    run(main())
