"""aiohttp's server and client over HTTP: keep-alive, streaming, timeouts, disconnects, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .loops import stalled

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")

PIECE = bytes(range(256)) * 256  # 64 KiB
PIECE_COUNT = 128
BIG_SHA256 = hashlib.sha256(PIECE * PIECE_COUNT).hexdigest()


@contextlib.asynccontextmanager
async def serving(routes: list[Any], **options: Any) -> AsyncIterator[str]:
    """Serve `routes` on a free port of 127.0.0.1 and yield the base URL.

    `ssl_context` goes to the site, every other option to the AppRunner.
    """
    ssl_context = options.pop("ssl_context", None)
    app = web.Application(client_max_size=0)
    app.add_routes(routes)
    runner = web.AppRunner(app, **options)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512, ssl_context=ssl_context)
        await site.start()
        scheme = "https" if ssl_context else "http"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def big_body() -> AsyncIterator[bytes]:
    for _ in range(PIECE_COUNT):
        yield PIECE


async def take_upload(request: Any) -> Any:
    digest = hashlib.sha256()
    async for piece in request.content.iter_any():
        digest.update(piece)
    return web.json_response({"sha256": digest.hexdigest()})


async def send_download(request: Any) -> Any:
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in big_body():
        await response.write(piece)
    await response.write_eof()
    return response


def test_keep_alive_uses_one_connection(run: Callable[..., Any]) -> None:
    async def main() -> None:
        peers = set()

        async def hello(request: Any) -> Any:
            peers.add(request.transport.get_extra_info("peername"))
            return web.Response(text=request.query["n"])

        async with serving([web.get("/", hello)]) as url, aiohttp.ClientSession() as session:
            for n in range(100):
                async with session.get(url, params={"n": n}) as response:
                    assert response.status == 200
                    assert await response.text() == str(n)
        assert len(peers) == 1

    run(main())


def test_streaming_upload(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with serving([web.post("/", take_upload)]) as url, aiohttp.ClientSession() as session:
            async with session.post(url, data=big_body()) as response:
                assert (await response.json())["sha256"] == BIG_SHA256

    run(main())


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_streaming_download(run: Callable[..., Any], debug: bool) -> None:
    async def main() -> None:
        digest = hashlib.sha256()
        async with serving([web.get("/", send_download)]) as url:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                async for piece in response.content.iter_chunked(10_000):
                    digest.update(piece)
        assert digest.hexdigest() == BIG_SHA256

    run(main(), debug=debug)


def test_upload_and_download_over_tls(run: Callable[..., Any], tls: Any) -> None:
    async def main() -> None:
        routes = [web.post("/", take_upload), web.get("/", send_download)]
        connector = aiohttp.TCPConnector(ssl=tls.client)
        async with (
            serving(routes, ssl_context=tls.server) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            async with session.post(url, data=big_body()) as response:
                assert (await response.json())["sha256"] == BIG_SHA256
            async with session.get(url) as response:
                body = await response.read()
        assert hashlib.sha256(body).hexdigest() == BIG_SHA256

    run(main())


def test_certificate_of_a_stranger_is_refused(run: Callable[..., Any], tls: Any) -> None:
    async def main() -> None:
        async with serving([], ssl_context=tls.server) as url, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url)

    run(main())


def test_static_file_is_sent(run: Callable[..., Any], tmp_path: Any) -> None:
    """FileResponse asks for `loop.sendfile`; either path must give the file's bytes."""
    (tmp_path / "big.bin").write_bytes(PIECE * PIECE_COUNT)

    async def main() -> None:
        async with (
            serving([web.static("/files", tmp_path)]) as url,
            aiohttp.ClientSession() as session,
            session.get(f"{url}/files/big.bin") as response,
        ):
            assert hashlib.sha256(await response.read()).hexdigest() == BIG_SHA256

    run(main())


def test_two_hundred_requests_are_in_flight_at_once(run: Callable[..., Any]) -> None:
    """The barrier opens only when all of them have arrived: a server in sequence would hang."""
    count = 200

    async def main() -> None:
        barrier = asyncio.Barrier(count)

        async def meet(request: Any) -> Any:
            await barrier.wait()
            return web.Response(text=request.query["n"])

        connector = aiohttp.TCPConnector(limit=0)
        async with (
            serving([web.get("/", meet)]) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):

            async def ask(n: int) -> str:
                async with session.get(url, params={"n": n}) as response:
                    return await response.text()

            answers = await asyncio.gather(*map(ask, range(count)))
        assert answers == [str(n) for n in range(count)]

    run(main())


def test_timeout_of_the_client_cancels_the_handler(run: Callable[..., Any]) -> None:
    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def never(_request: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.set_result("cancelled")
                raise

        async with serving([web.get("/", never)], handler_cancellation=True) as url:
            async with aiohttp.ClientSession() as session:
                with pytest.raises(asyncio.TimeoutError):
                    await session.get(url, timeout=aiohttp.ClientTimeout(total=0.1))
            assert await ended == "cancelled"

    run(main())


def test_read_timeout_inside_a_body(run: Callable[..., Any]) -> None:
    async def main() -> None:
        released = asyncio.Event()

        async def stall(request: Any) -> Any:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"begun")
            await released.wait()
            return response

        async with serving([web.get("/", stall)]) as url, aiohttp.ClientSession() as session:
            timeout = aiohttp.ClientTimeout(sock_read=0.1)
            async with session.get(url, timeout=timeout) as response:
                assert await response.content.readexactly(5) == b"begun"
                with pytest.raises(asyncio.TimeoutError):
                    await response.content.read()
            released.set()

    run(main())


def test_server_sees_a_client_that_goes_away(run: Callable[..., Any]) -> None:
    async def main() -> None:
        outcome = asyncio.get_running_loop().create_future()

        async def endless(request: Any) -> Any:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(PIECE)
            except ConnectionError as error:
                outcome.set_result(error)
                raise

        async with serving([web.get("/", endless)]) as url:
            port = int(url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readexactly(1_000_000)
            writer.transport.abort()
            assert isinstance(await outcome, ConnectionError)

    run(main())


def test_slow_reader_holds_the_server_back(run: Callable[..., Any]) -> None:
    """A client that reads nothing must stop the handler long before 256 MiB, and lose nothing."""
    piece_count = 4096

    async def main() -> None:
        written = 0
        transport: Any = None

        async def flood(request: Any) -> Any:
            nonlocal written, transport
            transport = request.transport
            response = web.StreamResponse()
            response.content_length = piece_count * len(PIECE)
            await response.prepare(request)
            for _ in range(piece_count):
                await response.write(PIECE)
                written += 1
            return response

        async with serving([web.get("/", flood)]) as url:
            port = int(url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await stalled(lambda: written) < piece_count // 4
            assert transport.get_write_buffer_size() > 0
            received = 0
            while piece := await reader.read(1 << 20):
                received += len(piece)
            assert received == piece_count * len(PIECE)
            writer.close()
            await writer.wait_closed()

    run(main())


def test_expect_100_continue_and_pipelined_requests(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with serving([web.post("/", take_upload)]) as url, aiohttp.ClientSession() as session:
            async with session.post(url, data=PIECE, expect100=True) as response:
                assert (await response.json())["sha256"] == hashlib.sha256(PIECE).hexdigest()
            port = int(url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            writer.write(one * 5)
            for _ in range(5):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert hashlib.sha256(b"abc").hexdigest().encode() in await reader.readuntil(b"}")
            writer.close()
            await writer.wait_closed()

    run(main())
