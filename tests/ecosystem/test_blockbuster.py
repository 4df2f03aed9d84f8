"""blockbuster, which makes calls that block the loop an error, finds none in what the loop does.

It knows asyncio's own few by the names of its files and functions. langgraph runs its programs
under it, and anyio, Starlette and aiohttp their tests.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError, blockbuster_ctx

from .loops import LoopKind


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"question\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_a_call_that_blocks_is_found(run: Callable[..., Any]) -> None:
    async def main() -> None:
        with blockbuster_ctx():
            with pytest.raises(BlockingError):
                time.sleep(0.001)
            with pytest.raises(BlockingError):
                os.stat("/")

    run(main())


def test_processes(run: Callable[..., Any]) -> None:
    async def main() -> list[tuple[bytes, int | None]]:
        results = []
        with blockbuster_ctx():
            for start, words in (
                (asyncio.create_subprocess_exec, ("/bin/cat",)),
                (asyncio.create_subprocess_shell, ("cat",)),
            ):
                process = await start(
                    *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
                )
                output, _ = await process.communicate(b"through")
                results.append((output, process.returncode))
        return results

    assert run(main()) == [(b"through", 0)] * 2


def test_unix_server(run: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> bytes:
        with blockbuster_ctx():
            async with await asyncio.start_unix_server(echo, path):
                return await ask(*await asyncio.open_unix_connection(path))

    assert run(main()) == b"question\n"
    assert path.exists() is (sys.version_info < (3, 13))


def test_unix_server_in_place_of_a_dead_one(
    kind: LoopKind, run: Callable[..., Any], tmp_path: Path
) -> None:
    if kind.name == "asyncio":
        pytest.skip("blockbuster does not allow asyncio's own os.remove")
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def main() -> bytes:
        with blockbuster_ctx():
            async with await asyncio.start_unix_server(echo, path):
                return await ask(*await asyncio.open_unix_connection(path))

    assert run(main()) == b"question\n"


def test_tcp_server_by_name(run: Callable[..., Any]) -> None:
    async def main() -> bytes:
        with blockbuster_ctx():
            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                return await ask(*await asyncio.open_connection("localhost", port))

    assert run(main()) == b"question\n"


def test_executor_and_its_end(run: Callable[..., Any]) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with blockbuster_ctx():
            result = await asyncio.to_thread(os.getpid)
            await loop.shutdown_default_executor()
        return result

    assert run(main()) == os.getpid()


def test_sendfile(run: Callable[..., Any], tmp_path: Path) -> None:
    contents = os.urandom(300_000)
    path = tmp_path / "contents"
    path.write_bytes(contents)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with path.open("rb") as file:
            await asyncio.get_running_loop().sendfile(writer.transport, file)
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        with blockbuster_ctx():
            async with await asyncio.start_server(send, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                received = await reader.read()
                writer.close()
                await writer.wait_closed()
        return received

    assert run(main()) == contents
