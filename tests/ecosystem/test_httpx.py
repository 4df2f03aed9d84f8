"""httpx's AsyncClient (through httpcore and anyio) against a server on the same loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .test_aiohttp_http import BIG_SHA256, big_body, send_download, serving, take_upload

web = pytest.importorskip("aiohttp.web")
httpx = pytest.importorskip("httpx")


async def hello(request: Any) -> Any:
    return web.Response(text=request.query.get("n", "hello"))


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_streaming_both_ways(run: Callable[..., Any], tls: Any, secure: bool) -> None:
    async def main() -> None:
        routes = [web.post("/", take_upload), web.get("/", send_download)]
        context = tls.server if secure else None
        async with serving(routes, ssl_context=context) as url:
            async with httpx.AsyncClient(base_url=url, verify=tls.client, timeout=20) as client:
                answer = await client.post("/", content=big_body())
                assert answer.json()["sha256"] == BIG_SHA256
                digest = hashlib.sha256()
                async with client.stream("GET", "/") as answer:
                    async for piece in answer.aiter_bytes():
                        digest.update(piece)
        assert digest.hexdigest() == BIG_SHA256

    run(main())


def test_hundred_requests_share_ten_connections(run: Callable[..., Any]) -> None:
    async def main() -> None:
        peers = set()

        async def answer(request: Any) -> Any:
            peers.add(request.transport.get_extra_info("peername"))
            await asyncio.sleep(0)
            return web.Response(text=request.query["n"])

        limits = httpx.Limits(max_connections=10, max_keepalive_connections=10)
        async with serving([web.get("/", answer)]) as url:
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=20) as client:
                answers = await asyncio.gather(
                    *(client.get("/", params={"n": n}) for n in range(100))
                )
        assert [one.text for one in answers] == [str(n) for n in range(100)]
        assert len(peers) <= 10

    run(main())


def test_timeouts_name_what_timed_out(run: Callable[..., Any]) -> None:
    async def main() -> None:
        released = asyncio.Event()

        async def stall(_request: Any) -> Any:
            await released.wait()
            return web.Response(text="late")

        limits = httpx.Limits(max_connections=1)
        async with serving([web.get("/stall", stall), web.get("/", hello)]) as url:
            async with httpx.AsyncClient(base_url=url, limits=limits) as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get("/stall", timeout=httpx.Timeout(10, read=0.05))
                holder = asyncio.ensure_future(client.get("/stall", timeout=None))
                await asyncio.sleep(0)
                with pytest.raises(httpx.PoolTimeout):
                    await client.get("/", timeout=httpx.Timeout(10, pool=0.05))
                released.set()
                assert (await holder).text == "late"
                assert (await client.get("/")).text == "hello"

    run(main())


def test_cancelled_request_gives_its_connection_back(run: Callable[..., Any]) -> None:
    async def main() -> None:
        arrived = asyncio.Event()

        async def never(_request: Any) -> Any:
            arrived.set()
            await asyncio.Event().wait()

        limits = httpx.Limits(max_connections=1)
        routes = [web.get("/never", never), web.get("/", hello)]
        async with serving(routes, handler_cancellation=True) as url:
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=10) as client:
                for _ in range(5):
                    arrived.clear()
                    request = asyncio.ensure_future(client.get("/never"))
                    await arrived.wait()
                    request.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await request
                    assert (await client.get("/")).text == "hello"

    run(main())


def test_download_left_half_way(run: Callable[..., Any]) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=1)
        async with serving([web.get("/big", send_download), web.get("/", hello)]) as url:
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=10) as client:
                async with client.stream("GET", "/big") as answer:
                    async for _piece in answer.aiter_bytes():
                        break
                assert (await client.get("/")).text == "hello"

    run(main())


def test_server_that_is_gone(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            async with serving([web.get("/", hello)]) as url:
                assert (await client.get(url)).text == "hello"
            with pytest.raises(httpx.ConnectError):
                await client.get(url)

    run(main())


def test_connection_that_the_server_closed_is_not_used_again(run: Callable[..., Any]) -> None:
    """httpcore asks the raw socket of an idle connection whether it is readable."""

    async def main() -> None:
        connections = 0

        async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            closed.release()

        closed = asyncio.Semaphore(0)
        async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                for _ in range(3):
                    assert (await client.get("/")).text == "ok"
                    await closed.acquire()
        assert connections == 3

    run(main())


def test_asgi_application_without_sockets(run: Callable[..., Any]) -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    @app.get("/squares")
    def squares(n: int) -> int:
        return n * n

    async def main() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            answers = await asyncio.gather(
                *(client.get("/squares", params={"n": n}) for n in range(100))
            )
        return [answer.json() for answer in answers]

    assert run(main()) == [n * n for n in range(100)]


def test_upload_that_fails_in_the_client(run: Callable[..., Any]) -> None:
    """The body's own exception reaches the caller; the client stays usable."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise LookupError("no more data")

    async def main() -> None:
        async with serving([web.post("/", take_upload), web.get("/", hello)]) as url:
            async with httpx.AsyncClient(base_url=url, timeout=10) as client:
                with pytest.raises(LookupError, match="no more data"):
                    await client.post("/", content=broken())
                assert (await client.get("/")).text == "hello"

    run(main())
