"""aiohttp's websockets, server and client: messages, pings, close codes, lost peers, rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from .test_aiohttp_http import serving

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")

MESSAGE_BYTES_MAX = 16 << 20


async def echo(request: Any) -> Any:
    """Send every message back until the peer closes."""
    socket = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES_MAX)
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@pytest.mark.parametrize("compress", [0, 15], ids=["plain", "deflate"])
def test_echo_of_every_size(run: Callable[..., Any], compress: int) -> None:
    async def main() -> None:
        async with (
            serving([web.get("/", echo)]) as url,
            aiohttp.ClientSession() as session,
            session.ws_connect(url, compress=compress, max_msg_size=MESSAGE_BYTES_MAX) as socket,
        ):
            for size in (0, 1, 125, 126, 65_535, 65_536, 4 << 20):
                await socket.send_bytes(b"\xa5" * size)
                assert await socket.receive_bytes() == b"\xa5" * size
            await socket.send_str("grüße")
            assert await socket.receive_str() == "grüße"

    run(main())


def test_heartbeats_keep_a_quiet_connection(run: Callable[..., Any]) -> None:
    """The server's heartbeat pings; the client answers while it waits; then text still flows."""

    async def main() -> None:
        pongs = asyncio.Event()

        async def quiet(request: Any) -> Any:
            socket = web.WebSocketResponse(autoping=False)
            await socket.prepare(request)
            for n in range(3):
                await socket.ping(b"%d" % n)
                message = await socket.receive()
                assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"%d" % n)
            pongs.set()
            await socket.send_str("after")
            await socket.close(code=4001, message=b"enough")
            return socket

        async with (
            serving([web.get("/", quiet)]) as url,
            aiohttp.ClientSession() as session,
            session.ws_connect(url) as socket,
        ):
            assert await socket.receive_str() == "after"
            assert pongs.is_set()
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert (socket.close_code, message.extra) == (4001, "enough")

    run(main())


def test_peer_that_vanishes_is_an_abnormal_closure(run: Callable[..., Any]) -> None:
    async def main() -> None:
        code = asyncio.get_running_loop().create_future()

        async def listen(request: Any) -> Any:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str("ready")
            async for _message in socket:
                pass
            code.set_result(socket.close_code)
            return socket

        async with serving([web.get("/", listen)]) as url, aiohttp.ClientSession() as session:
            socket = await session.ws_connect(url)
            assert await socket.receive_str() == "ready"
            socket.get_extra_info("socket")  # must not raise
            socket._response.connection.transport.abort()
            assert await code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
            await socket.close()

    run(main())


def test_room_reaches_every_member(run: Callable[..., Any]) -> None:
    """60 members; each says one thing; everyone hears everything, in the room's order."""
    count = 60

    async def main() -> None:
        members: list[Any] = []
        complete = asyncio.Event()

        async def room(request: Any) -> Any:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            members.append(socket)
            if len(members) == count:
                complete.set()
            async for message in socket:
                await asyncio.gather(*(member.send_str(message.data) for member in members))
            return socket

        async with serving([web.get("/", room)]) as url, aiohttp.ClientSession() as session:

            async def join(n: int) -> list[str]:
                async with session.ws_connect(url) as socket:
                    await complete.wait()
                    await socket.send_str(str(n))
                    heard = [await socket.receive_str() for _ in range(count)]
                    done.append(n)
                    if len(done) == count:
                        everyone_done.set()
                    await everyone_done.wait()
                    return heard

            done: list[int] = []
            everyone_done = asyncio.Event()
            heard = await asyncio.gather(*map(join, range(count)))
        assert sorted(map(int, heard[0])) == list(range(count))
        assert all(sorted(one) == sorted(heard[0]) for one in heard)

    run(main())
