"""TLS as programs use it: uvicorn with --ssl-*, databases and mail by STARTTLS, TLS inside TLS.

Facts. asyncpg asks a plain connection for TLS and upgrades it with `start_tls`; redis-py opens one
with `ssl=`; smtplib's STARTTLS is a client that knows nothing of asyncio. The databases of these
tests have no certificates, so a proxy on the loop under test speaks TLS for them: then both sides
of the upgrade are tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import smtplib
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from .databases import PostgresAddress, RedisAddress
from .loops import LoopKind
from .processes import Program

CERTIFICATE = Path(__file__).parent.parent / "certificates" / "localhost.pem"
PROGRAMS = str(Path(__file__).parent / "programs")
PIECE = bytes(range(256)) * 256
LIMIT_S = 20

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


@contextlib.asynccontextmanager
async def listening(handler: Handler, **options: Any) -> AsyncIterator[int]:
    """Serve `handler` on a free port and yield the port; waits for the connections to end."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if serving:
            await asyncio.wait(serving, timeout=LIMIT_S)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one end to the other."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
) -> None:
    """Connect two connections to each other until one of them ends."""
    other_reader, other_writer = await there
    await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
    with contextlib.suppress(OSError):
        await other_writer.wait_closed()


def test_uvicorn_with_a_certificate(run: Callable[..., Any], kind: LoopKind) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    httpx = pytest.importorskip("httpx")
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--app-dir", PROGRAMS]
    command += ["--port", "0", "--no-use-colors", "--loop", kind.factory_path]
    command += ["--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", str(CERTIFICATE)]

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield PIECE

    async def main(url: str) -> None:
        async with httpx.AsyncClient(
            base_url=url, timeout=LIMIT_S, verify=client_context()
        ) as client:
            for count in range(1, 20):
                answer = await client.post("/orders", json={"item": "nut", "count": count})
                assert answer.json() == {"item": "nut", "count": count}
            digest = hashlib.sha256(PIECE * 64).hexdigest()
            answer = await client.post("/upload", content=upload())
            assert answer.json() == {"sha256": digest}
            async with client.stream("GET", "/stream", params={"count": 2000}) as stream:
                assert len([line async for line in stream.aiter_lines()]) == 2000

    with Program(command) as program:
        address = program.wait_for_line(r"Uvicorn running on (https://[\d.]+:\d+)").group(1)
        run(main(address))
        program.send_signal(signal.SIGTERM)
        program.wait()
        assert "LIFESPAN ENDS" in program.output
        assert "Traceback" not in program.output


def test_redis_over_tls(run: Callable[..., Any], redis_address: RedisAddress) -> None:
    redis = pytest.importorskip("redis.asyncio")

    async def main() -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await join(reader, writer, asyncio.open_unix_connection(redis_address.unix_path))

        async with (
            listening(proxy, ssl=server_context()) as port,
            redis.Redis(
                host="127.0.0.1", port=port, ssl=True, ssl_ca_certs=str(CERTIFICATE)
            ) as client,
        ):
            for size in (0, 1, 1000, 65_536, 5 << 20):
                value = (PIECE * (size // len(PIECE) + 1))[:size]
                await client.set("tls", value)
                assert await client.get("tls") == value
            async with client.pipeline(transaction=False) as pipe:
                for number in range(2000):
                    pipe.set(f"tls{number}", number)
                    pipe.get(f"tls{number}")
                replies = await pipe.execute()
            assert replies[1::2] == [b"%d" % number for number in range(2000)]

    run(main())


def test_asyncpg_upgrades_to_tls(
    run: Callable[..., Any], postgres_address: PostgresAddress
) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def main() -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readexactly(8)
            if request[4:] != (80_877_103).to_bytes(4, "big"):
                # Not the request for TLS but one to cancel, say.
                there = asyncio.open_connection(postgres_address.host, postgres_address.port)
                other_reader, other_writer = await there
                other_writer.write(request)
                await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
                return
            writer.write(b"S")
            await writer.start_tls(server_context())
            await join(
                reader,
                writer,
                asyncio.open_connection(postgres_address.host, postgres_address.port),
            )

        async with listening(proxy) as port:
            connection = await asyncpg.connect(
                host="127.0.0.1",
                port=port,
                user=postgres_address.user,
                database=postgres_address.database,
                ssl=client_context(),
                timeout=LIMIT_S,
            )
            rows = await connection.fetch(
                "select n, repeat('x', n) as t from generate_series(0, 2000) n"
            )
            assert [(row["n"], len(row["t"])) for row in rows] == [(n, n) for n in range(2001)]
            big = PIECE * 40
            assert await connection.fetchval("select $1::bytea", big) == big
            await connection.close(timeout=LIMIT_S)

    run(main())


async def mail_session(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mails: list[bytes]
) -> None:
    """As much of SMTP (RFC 5321, 3207) as smtplib needs."""
    encrypted = False
    writer.write(b"220 test\r\n")
    while line := await reader.readline():
        command = line.split()[0].upper()
        if command == b"EHLO":
            writer.write(b"250-test\r\n250 STARTTLS\r\n" if not encrypted else b"250 test\r\n")
        elif command == b"STARTTLS":
            writer.write(b"220 go\r\n")
            await writer.start_tls(server_context())
            encrypted = True
        elif command == b"DATA":
            writer.write(b"354 go\r\n")
            mails.append(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"250 ok\r\n")
        elif command == b"QUIT":
            writer.write(b"221 bye\r\n")
            return
        else:
            writer.write(b"250 ok\r\n")


def test_mail_by_starttls(run: Callable[..., Any]) -> None:
    text = "From: a\r\n\r\n" + "all work and no play\r\n" * 20_000

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=LIMIT_S) as client:
            client.starttls(context=client_context())
            for _ in range(3):
                client.sendmail("a@localhost", ["b@localhost"], text)

    async def main() -> None:
        mails: list[bytes] = []
        async with listening(lambda r, w: mail_session(r, w, mails), limit=1 << 20) as port:
            await asyncio.to_thread(send, port)
        assert mails == [text.encode() + b".\r\n"] * 3

    run(main())


def test_aiohttp_through_a_proxy_with_tls(run: Callable[..., Any]) -> None:
    """The client speaks TLS to the proxy, and inside of it TLS to the server."""
    aiohttp = pytest.importorskip("aiohttp")
    web = pytest.importorskip("aiohttp.web")
    tunnels = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        host, _, port = head.split()[1].decode().partition(":")
        tunnels.append(head.split()[0])
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await join(reader, writer, asyncio.open_connection(host, int(port)))

    async def answer(request: Any) -> Any:
        body = await request.read()
        return web.Response(body=body * 2)

    async def main() -> None:
        app = web.Application(client_max_size=0)
        app.router.add_post("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context())
        await site.start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        async with listening(proxy, ssl=server_context()) as port:
            connector = aiohttp.TCPConnector(ssl=client_context())
            async with aiohttp.ClientSession(connector=connector) as session:
                for size in (1, 1000, 1 << 20):
                    body = (PIECE * (size // len(PIECE) + 1))[:size]
                    proxied = session.post(url, data=body, proxy=f"https://127.0.0.1:{port}")
                    async with proxied as response:
                        assert await response.read() == body * 2
        await runner.cleanup()
        assert tunnels[0] == b"CONNECT"

    run(main())
