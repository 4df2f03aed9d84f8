"""The websockets library, server and client: sizes, pings, close codes, backpressure, TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .loops import stalled

websockets = pytest.importorskip("websockets")
server_module = pytest.importorskip("websockets.asyncio.server")
client_module = pytest.importorskip("websockets.asyncio.client")

serve = server_module.serve
connect = client_module.connect


async def echo(socket: Any) -> None:
    async for message in socket:
        await socket.send(message)


@contextlib.asynccontextmanager
async def serving(handler: Callable[[Any], Any], **options: Any) -> AsyncIterator[str]:
    """Serve `handler` on a free port and yield its URL."""
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'wss' if 'ssl' in options else 'ws'}://127.0.0.1:{port}"


@pytest.mark.parametrize("compression", ["deflate", None])
def test_echo_of_every_size(run: Callable[..., Any], compression: str | None) -> None:
    async def main() -> None:
        async with (
            serving(echo, compression=compression) as url,
            connect(url, max_size=None, compression=compression) as socket,
        ):
            for size in (0, 1, 125, 126, 65_535, 65_536, 8 << 20):
                await socket.send(b"\x5a" * size)
                assert await socket.recv() == b"\x5a" * size
            await socket.send("grüße")
            assert await socket.recv() == "grüße"

    run(main())


def test_echo_over_tls(run: Callable[..., Any], tls: Any) -> None:
    async def main() -> None:
        async with (
            serving(echo, ssl=tls.server) as url,
            connect(url, ssl=tls.client, max_size=None) as socket,
        ):
            for size in (1, 16_384, 1 << 20):
                await socket.send(b"\x5a" * size)
                assert await socket.recv() == b"\x5a" * size

    run(main())


def test_echo_over_a_unix_socket(run: Callable[..., Any], tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        async with (
            server_module.unix_serve(echo, path),
            client_module.unix_connect(path) as socket,
        ):
            await socket.send("over Unix")
            assert await socket.recv() == "over Unix"

    run(main())


def test_pings_from_both_sides(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async def pinger(socket: Any) -> None:
            for _ in range(20):
                assert await (await socket.ping()) >= 0
            await socket.send("pinged")

        async with serving(pinger) as url, connect(url) as socket:
            for _ in range(20):
                assert await (await socket.ping()) >= 0
            assert await socket.recv() == "pinged"

    run(main())


def test_close_codes_reach_the_other_side(run: Callable[..., Any]) -> None:
    async def main() -> None:
        seen = asyncio.get_running_loop().create_future()

        async def refuse(socket: Any) -> None:
            if socket.request.path == "/server":
                await socket.close(4003, "not today")
                return
            try:
                await socket.recv()
            except websockets.ConnectionClosed as closed:
                seen.set_result((closed.rcvd.code, closed.rcvd.reason))

        async with serving(refuse) as url:
            async with connect(f"{url}/server") as socket:
                with pytest.raises(websockets.ConnectionClosedError) as caught:
                    await socket.recv()
                assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4003, "not today")
            async with connect(f"{url}/client") as socket:
                await socket.close(4004, "bye")
            assert await seen == (4004, "bye")

    run(main())


def test_lost_connection_is_an_error_without_a_close_frame(run: Callable[..., Any]) -> None:
    async def main() -> None:
        outcome = asyncio.get_running_loop().create_future()

        async def listen(socket: Any) -> None:
            try:
                await socket.recv()
            except websockets.ConnectionClosed as closed:
                outcome.set_result(closed)

        async with serving(listen) as url, connect(url) as socket:
            socket.transport.abort()
            closed = await outcome
            assert isinstance(closed, websockets.ConnectionClosedError)
            assert closed.rcvd is None

    run(main())


def test_server_that_closes_says_going_away(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            sockets = [await connect(f"ws://127.0.0.1:{port}") for _ in range(10)]
            server.close()
            await server.wait_closed()
            for socket in sockets:
                with pytest.raises(websockets.ConnectionClosedOK) as caught:
                    await socket.recv()
                assert caught.value.rcvd.code == 1001
            with pytest.raises(OSError):
                await connect(f"ws://127.0.0.1:{port}", open_timeout=5)

    run(main())


def test_keepalive_notices_a_peer_that_does_not_answer(run: Callable[..., Any]) -> None:
    """The client's transport stops reading, so that no pong ever comes back."""

    async def main() -> None:
        outcome = asyncio.get_running_loop().create_future()

        async def listen(socket: Any) -> None:
            try:
                await socket.recv()
            except websockets.ConnectionClosed as closed:
                outcome.set_result(closed)

        async with serving(listen, ping_interval=0.05, ping_timeout=0.1, close_timeout=0.1) as url:
            socket = await connect(url, ping_interval=None, close_timeout=0.1)
            socket.transport.pause_reading()
            closed = await outcome
            assert closed.sent.code == 1011
            socket.transport.abort()
            await socket.wait_closed()

    run(main())


def test_slow_reader_holds_the_sender_back(run: Callable[..., Any]) -> None:
    message, count = b"\x5a" * (64 << 10), 1024

    async def main() -> None:
        sent = 0

        async def flood(socket: Any) -> None:
            nonlocal sent
            for _ in range(count):
                await socket.send(message)
                sent += 1

        async with (
            serving(flood, compression=None) as url,
            connect(url, compression=None, max_queue=4) as socket,
        ):
            assert await stalled(lambda: sent) < count // 2
            for _ in range(count):
                assert await socket.recv() == message
        assert sent == count

    run(main())


def test_broadcast_to_a_hundred(run: Callable[..., Any]) -> None:
    count = 100

    async def main() -> None:
        members: set[Any] = set()
        complete = asyncio.Event()

        async def join(socket: Any) -> None:
            members.add(socket)
            if len(members) == count:
                complete.set()
            await socket.wait_closed()

        async with serving(join) as url:
            sockets = await asyncio.gather(*(connect(url) for _ in range(count)))
            await complete.wait()
            for n in range(10):
                server_module.broadcast(members, str(n))
            for socket in sockets:
                assert [await socket.recv() for _ in range(10)] == [str(n) for n in range(10)]
            await asyncio.gather(*(socket.close() for socket in sockets))

    run(main())


def test_reconnecting_client(run: Callable[..., Any]) -> None:
    """`async for socket in connect(...)` connects anew after every loss."""

    async def main() -> None:
        async def once(socket: Any) -> None:
            await socket.send("hello")
            await socket.close()

        greetings = []
        async with serving(once) as url:
            async for socket in connect(url):
                greetings.append(await socket.recv())
                await socket.wait_closed()
                if len(greetings) == 5:
                    break
        assert greetings == ["hello"] * 5

    run(main())
