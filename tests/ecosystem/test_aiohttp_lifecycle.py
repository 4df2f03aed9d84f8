"""How aiohttp programs start and end: a real process with signals, and a graceful shutdown."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .loops import LoopKind
from .processes import Program
from .test_aiohttp_http import serving

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")

SERVER = str(Path(__file__).parent / "programs" / "aiohttp_server.py")


async def refused(port: int) -> None:
    """Return once nothing listens on `port` any more: the program has begun to shut down."""
    while True:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.transport.abort()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_program_finishes_its_request_then_ends(
    kind: LoopKind, run: Callable[..., Any], number: signal.Signals
) -> None:
    """A request that the signal finds waiting is answered; clean-up runs; the status is 0."""

    async def converse(program: Program, url: str) -> None:
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                assert await response.text() == "hello"
            held = asyncio.ensure_future(session.get(f"{url}/hold"))
            await loop.run_in_executor(None, program.wait_for_line, "HOLDING")
            program.send_signal(number)
            await refused(int(url.rpartition(":")[2]))
            assert not held.done()
            program.send_signal(signal.SIGUSR1)
            async with await held as response:
                assert await response.text() == "released"

    with Program(kind.command(SERVER)) as program:
        port = program.wait_for_line(r"LISTENING (\d+)").group(1)
        top_package = program.wait_for_line(r"LOOP (\w+)\.").group(1)
        assert top_package == kind.name
        run(converse(program, f"http://127.0.0.1:{port}"))
        assert program.wait() == 0, program.output
        assert "CLEANED UP" in program.output
        # A server of asyncio's may be told of a forgotten connection after its end, and fails then.
        if kind.name != "asyncio":
            assert "Traceback" not in program.output


def test_cleanup_waits_for_a_request_and_refuses_new_ones(run: Callable[..., Any]) -> None:
    async def main() -> None:
        arrived, released = asyncio.Event(), asyncio.Event()

        async def hold(_request: Any) -> Any:
            arrived.set()
            await released.wait()
            return web.Response(text="served")

        app = web.Application()
        app.add_routes([web.get("/", hold)])
        runner = web.AppRunner(app, shutdown_timeout=10)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as session:
            request = asyncio.ensure_future(session.get(f"http://127.0.0.1:{port}/"))
            await arrived.wait()
            cleanup = asyncio.ensure_future(runner.cleanup())
            await refused(port)
            assert not cleanup.done()
            released.set()
            async with await request as response:
                assert await response.text() == "served"
            await cleanup

    run(main())


def test_cleanup_cancels_a_request_that_never_ends(run: Callable[..., Any]) -> None:
    async def main() -> None:
        arrived = asyncio.Event()
        ended = []

        async def never(_request: Any) -> Any:
            arrived.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        async with aiohttp.ClientSession() as session:
            async with serving([web.get("/", never)], shutdown_timeout=0.1) as url:
                request = asyncio.ensure_future(session.get(url))
                await arrived.wait()
            with pytest.raises(aiohttp.ClientConnectionError):
                await request
        assert ended == [True]

    run(main())


def test_unix_site(run: Callable[..., Any], tmp_path: Path) -> None:
    async def main() -> None:
        async def hello(_request: Any) -> Any:
            return web.Response(text="over a Unix socket")

        app = web.Application()
        app.add_routes([web.get("/", hello)])
        runner = web.AppRunner(app)
        await runner.setup()
        path = str(tmp_path / "s")
        await web.UnixSite(runner, path).start()
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get("http://unix/") as response:
                assert await response.text() == "over a Unix socket"
        await runner.cleanup()

    run(main())
