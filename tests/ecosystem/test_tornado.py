"""Tornado on the running loop: HTTP, websockets, add_handler, callbacks from threads, timers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .loops import LoopKind

pytest.importorskip("tornado")
httpclient = pytest.importorskip("tornado.httpclient")
httpserver = pytest.importorskip("tornado.httpserver")
ioloop = pytest.importorskip("tornado.ioloop")
iostream = pytest.importorskip("tornado.iostream")
netutil = pytest.importorskip("tornado.netutil")
tcpserver = pytest.importorskip("tornado.tcpserver")
web = pytest.importorskip("tornado.web")
websocket = pytest.importorskip("tornado.websocket")

PIECE = bytes(range(256)) * 256
PIECE_COUNT = 64


class Square(web.RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(0)
        self.write({"square": int(self.get_argument("n")) ** 2})


class Download(web.RequestHandler):
    async def get(self) -> None:
        for _ in range(PIECE_COUNT):
            self.write(PIECE)
            await self.flush()


@web.stream_request_body
class Upload(web.RequestHandler):
    def prepare(self) -> None:
        self.size = 0

    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.size += len(chunk)

    def post(self) -> None:
        self.write(str(self.size))


class Echo(websocket.WebSocketHandler):
    async def on_message(self, message: Any) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


class Serving:
    """An asynchronous context manager: an HTTP server on a free port; gives its address."""

    def __init__(self, **options: Any) -> None:
        routes = [("/square", Square), ("/big", Download), ("/up", Upload), ("/echo", Echo)]
        self.server = httpserver.HTTPServer(web.Application(routes), **options)

    async def __aenter__(self) -> str:
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        self.server.add_sockets(sockets)
        return f"127.0.0.1:{sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_exc_info: object) -> None:
        self.server.stop()
        await self.server.close_all_connections()


def test_http_server_and_client(run: Callable[..., Any], kind: LoopKind) -> None:
    async def main() -> None:
        kind.check(ioloop.IOLoop.current().asyncio_loop)
        assert ioloop.IOLoop.current().asyncio_loop is asyncio.get_running_loop()
        async with Serving() as address:
            client = httpclient.AsyncHTTPClient(force_instance=True, max_clients=50)
            answers = await asyncio.gather(
                *(client.fetch(f"http://{address}/square?n={n}") for n in range(100))
            )
            assert [answer.body for answer in answers] == [
                b'{"square": %d}' % (n * n) for n in range(100)
            ]
            answer = await client.fetch(f"http://{address}/big")
            assert answer.body == PIECE * PIECE_COUNT

            async def produce(write: Callable[[bytes], Any]) -> None:
                for _ in range(PIECE_COUNT):
                    await write(PIECE)

            url = f"http://{address}/up"
            answer = await client.fetch(url, method="POST", body_producer=produce)
            assert answer.body == str(len(PIECE) * PIECE_COUNT).encode()
            with pytest.raises(httpclient.HTTPClientError) as caught:
                await client.fetch(f"http://{address}/nowhere")
            assert caught.value.code == 404
            client.close()

    run(main())


def test_https(run: Callable[..., Any], tls: Any) -> None:
    async def main() -> None:
        async with Serving(ssl_options=tls.server) as address:
            client = httpclient.AsyncHTTPClient(force_instance=True)
            answer = await client.fetch(f"https://{address}/big", ssl_options=tls.client)
            assert answer.body == PIECE * PIECE_COUNT
            client.close()

    run(main())


def test_websocket_echo(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with Serving() as address:
            connection = await websocket.websocket_connect(f"ws://{address}/echo")
            for message in ("grüße", b"\0\1\2", "x" * 500_000):
                await connection.write_message(message, binary=isinstance(message, bytes))
                assert await connection.read_message() == message
            connection.close(4001, "bye")
            assert await connection.read_message() is None

    run(main())


@pytest.mark.parametrize("as_int", [True, False], ids=["int", "object"])
def test_add_handler(run: Callable[..., Any], as_int: bool) -> None:
    """Handlers for reading and writing on one socket, replaced and removed from inside."""

    async def main() -> None:
        loop = ioloop.IOLoop.current()
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        watched = right.fileno() if as_int else right
        done = asyncio.get_running_loop().create_future()
        events: list[tuple[str, bytes]] = []

        def on_event(fd: Any, mask: int) -> None:
            assert fd == watched
            if mask & loop.WRITE:
                events.append(("writable", b""))
                loop.update_handler(fd, loop.READ)
                left.send(b"hello")
            if mask & loop.READ:
                events.append(("readable", right.recv(100)))
                loop.remove_handler(fd)
                left.send(b"nobody listens")
                loop.add_callback(done.set_result, None)

        loop.add_handler(watched, on_event, loop.READ | loop.WRITE)
        await done
        await asyncio.sleep(0)
        assert events == [("writable", b""), ("readable", b"hello")]
        assert right.recv(100) == b"nobody listens"
        left.close()
        right.close()

    run(main())


def test_tcp_server_and_streams(run: Callable[..., Any]) -> None:
    class Reverse(tcpserver.TCPServer):
        async def handle_stream(self, stream: Any, address: Any) -> None:
            try:
                while True:
                    line = await stream.read_until(b"\n")
                    await stream.write(line[-2::-1] + b"\n")
            except iostream.StreamClosedError:
                ended.append(address)
                if len(ended) == 20:
                    all_ended.set()

    ended: list[Any] = []
    all_ended = asyncio.Event()

    async def main() -> None:
        server = Reverse()
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)

        async def converse() -> None:
            stream = iostream.IOStream(socket.socket())
            await stream.connect(sockets[0].getsockname())
            for word in (b"abc", b"x" * 100_000 + b"y", b""):
                await stream.write(word + b"\n")
                assert await stream.read_until(b"\n") == word[::-1] + b"\n"
            stream.close()

        await asyncio.gather(*(converse() for _ in range(20)))
        await all_ended.wait()
        server.stop()

    run(main())


def test_periodic_callback_and_timers(run: Callable[..., Any]) -> None:
    async def main() -> None:
        loop = ioloop.IOLoop.current()
        fired: list[str] = []
        done = asyncio.get_running_loop().create_future()

        def tick() -> None:
            fired.append("tick")
            if len(fired) == 5:
                periodic.stop()
                loop.call_later(0, done.set_result, None)

        periodic = ioloop.PeriodicCallback(tick, 5)
        periodic.start()
        never = loop.call_later(0.001, fired.append, "removed")
        loop.remove_timeout(never)
        await done
        assert fired == ["tick"] * 5
        assert not periodic.is_running()

    run(main())


def test_callbacks_from_threads_and_into_threads(run: Callable[..., Any]) -> None:
    async def main() -> None:
        loop = ioloop.IOLoop.current()
        received: list[int] = []
        done = asyncio.Event()

        def receive(n: int) -> None:
            received.append(n)
            if len(received) == 1000:
                done.set()

        def send(first: int) -> None:
            for n in range(first, 1000, 4):
                loop.add_callback(receive, n)

        threads = [threading.Thread(target=send, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        await done.wait()
        for thread in threads:
            thread.join()
        assert sorted(received) == list(range(1000))
        assert await loop.run_in_executor(None, pow, 2, 10) == 1024

    run(main())


def test_io_loop_around_our_loop(kind: LoopKind) -> None:
    """`run_sync` starts and stops the wrapped loop several times; then both are closed."""
    inner = kind.factory()
    loop = ioloop.IOLoop(asyncio_loop=inner, make_current=False)

    async def answer(n: int) -> int:
        await asyncio.sleep(0)
        kind.check(asyncio.get_running_loop())
        return n

    try:
        assert [loop.run_sync(lambda n=n: answer(n)) for n in range(5)] == list(range(5))
        with pytest.raises(ioloop.TimeoutError):
            loop.run_sync(asyncio.Event().wait, timeout=0.02)
    finally:
        loop.close(all_fds=True)
    assert inner.is_closed()
