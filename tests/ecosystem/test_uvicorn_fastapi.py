"""uvicorn serving FastAPI as a process of its own, with `--loop`, from start to exit status.

Facts. uvicorn takes `module:factory` for --loop and calls it without arguments. After SIGTERM or
SIGINT it stops accepting, finishes what is in flight, runs the end of the lifespan and raises the
signal again; the resulting exit status is compared with that of the same program on asyncio.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.util
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .loops import LoopKind
from .processes import Program

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")
websockets = pytest.importorskip("websockets")
ws_client = pytest.importorskip("websockets.asyncio.client")

PROGRAMS = str(Path(__file__).parent / "programs")
PIECE = b"0123456789abcdef" * 4096
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def uvicorn_command(loop_option: str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--app-dir", PROGRAMS]
    return [*command, "--port", "0", "--no-use-colors", "--loop", loop_option, *options]


def address_of(program: Program) -> str:
    """The host and port that uvicorn reports."""
    return program.wait_for_line(r"Uvicorn running on http://([\d.]+:\d+)").group(1)


@functools.cache
def exit_status_on_asyncio(number: signal.Signals) -> int:
    """How the same program ends on asyncio when it gets the signal `number`."""
    with Program(uvicorn_command("asyncio")) as program:
        address_of(program)
        program.send_signal(number)
        return program.wait()


@pytest.fixture(scope="module", params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    """The HTTP implementation."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture
def server(kind: LoopKind, http: str) -> Iterator[str]:
    """The host and port of a server on the loop under test; it must end without a traceback."""
    with Program(uvicorn_command(kind.factory_path, "--http", http)) as program:
        package = program.wait_for_line(r"LIFESPAN BEGINS (\w+)\.").group(1)
        assert package == kind.name
        yield address_of(program)
        program.send_signal(signal.SIGTERM)
        program.wait()
        assert "LIFESPAN ENDS" in program.output
        expected = program.output.count("\nLookupError: ")
        assert program.output.count("Traceback (most recent call last)") == expected


def test_endpoints(run: Callable[..., Any], server: str) -> None:
    """JSON, validation, errors, worker threads, background tasks, streams, in one life."""

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield PIECE

    async def main() -> None:
        async with httpx.AsyncClient(base_url=f"http://{server}", timeout=20) as client:
            answer = await client.post("/orders", json={"item": "nut", "count": 3})
            assert answer.json() == {"item": "nut", "count": 3}
            assert (await client.post("/orders", json={"item": "nut"})).status_code == 422
            assert (await client.post("/orders", json={"item": "", "count": 0})).status_code == 409
            assert (await client.get("/broken")).status_code == 500

            squares = await asyncio.gather(
                *(client.get("/threads", params={"n": n}) for n in range(50))
            )
            assert [answer.json() for answer in squares] == [n * n for n in range(50)]

            assert (await client.post("/jobs/a")).json() == "accepted"
            assert (await client.get("/jobs/a")).json() == "done"

            async with client.stream("GET", "/stream", params={"count": 2000}) as answer:
                lines = [line async for line in answer.aiter_lines()]
            assert lines == [str(n) for n in range(2000)]

            answer = await client.post("/upload", content=upload())
            assert answer.json()["sha256"] == hashlib.sha256(PIECE * 64).hexdigest()

    run(main())


def test_hundred_clients_with_a_connection_each(run: Callable[..., Any], server: str) -> None:
    async def main() -> None:
        async def one(n: int) -> int:
            reader, writer = await asyncio.open_connection(*server.split(":"))
            total = 0
            for _ in range(10):
                writer.write(f"GET /threads?n={n} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                total += int(await reader.readexactly(length))
            writer.close()
            await writer.wait_closed()
            return total

        totals = await asyncio.gather(*map(one, range(100)))
        assert totals == [10 * n * n for n in range(100)]

    run(main())


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_websocket_endpoint(kind: LoopKind, run: Callable[..., Any], ws: str) -> None:
    async def main(address: str) -> None:
        async with ws_client.connect(f"ws://{address}/echo", max_size=None) as socket:
            for text in ("", "grüße", "x" * 1_000_000):
                await socket.send(text)
                assert await socket.recv() == text
            pong = await socket.ping()
            assert await pong >= 0
            await socket.close(4002, "bye")
        assert socket.close_code == 4002

    with Program(uvicorn_command(kind.factory_path, "--ws", ws)) as program:
        run(main(address_of(program)))
        program.wait_for_line("WEBSOCKET CLOSED 4002")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signal_lets_the_request_in_flight_finish(
    kind: LoopKind, run: Callable[..., Any], number: signal.Signals
) -> None:
    async def main(program: Program, address: str) -> str:
        loop = asyncio.get_running_loop()

        async def body() -> AsyncIterator[bytes]:
            yield b"before"
            await loop.run_in_executor(None, program.wait_for_line, "UPLOAD BEGUN")
            program.send_signal(number)
            await loop.run_in_executor(None, program.wait_for_line, "Shutting down")
            yield b"after"

        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
            return (await client.post("/upload", content=body())).json()["sha256"]

    with Program(uvicorn_command(kind.factory_path)) as program:
        sha256 = run(main(program, address_of(program)))
        assert sha256 == hashlib.sha256(b"beforeafter").hexdigest()
        assert program.wait() == exit_status_on_asyncio(number)
        assert "LIFESPAN ENDS" in program.output
        assert "Traceback" not in program.output


def test_unix_socket(kind: LoopKind, run: Callable[..., Any], tmp_path: Path) -> None:
    path = str(tmp_path / "u")

    async def main() -> None:
        transport = httpx.AsyncHTTPTransport(uds=path)
        async with httpx.AsyncClient(transport=transport, base_url="http://unix") as client:
            assert (await client.get("/threads", params={"n": 12})).json() == 144

    with Program(uvicorn_command(kind.factory_path, "--uds", path)) as program:
        program.wait_for_line("Uvicorn running on unix socket")
        run(main())
        program.send_signal(signal.SIGTERM)
        program.wait()
    assert "Traceback" not in program.output


def test_two_workers_share_the_socket(kind: LoopKind, run: Callable[..., Any]) -> None:
    """Workers are spawned processes, which import the loop afresh from its name."""

    async def main(address: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/threads", params={"n": 5})).json() == 25

    with Program(uvicorn_command(kind.factory_path, "--workers", "2")) as program:
        address = address_of(program)
        program.wait_for_line(rf"LIFESPAN BEGINS {kind.name}\.")
        program.wait_for_line("Application startup complete")
        run(main(address))
        program.send_signal(signal.SIGTERM)
        program.wait()
        assert "Traceback" not in program.output


def test_loop_is_taken_from_the_environment(kind: LoopKind) -> None:
    environment = {**os.environ, "UVICORN_LOOP": kind.factory_path}
    command = uvicorn_command("asyncio")
    position = command.index("--loop")
    del command[position : position + 2]
    with Program(command, env=environment) as program:
        assert program.wait_for_line(r"LIFESPAN BEGINS (\w+)\.").group(1) == kind.name
