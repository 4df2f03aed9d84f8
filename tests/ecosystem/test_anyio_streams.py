"""AnyIO's network streams: TCP, Unix, TLS, half-close, busy resources, waits for raw sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

anyio = pytest.importorskip("anyio")
streams_tls = pytest.importorskip("anyio.streams.tls")

PIECE = bytes(range(256)) * 512


async def echo(stream: Any) -> None:
    """Send everything back until the peer ends its half, then end ours."""
    async with stream:
        async for piece in stream:
            await stream.send(piece)
        await stream.send_eof()


async def converse(stream: Any, piece_count: int) -> None:
    """Send `piece_count` pieces, end our half, and check that all of them come back."""
    received = bytearray()
    async with stream, anyio.create_task_group() as group:

        async def send() -> None:
            for _ in range(piece_count):
                await stream.send(PIECE)
            await stream.send_eof()

        group.start_soon(send)
        async for piece in stream:
            received += piece
    assert received == PIECE * piece_count


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tcp_echo_with_half_close(run_anyio: Callable[..., Any], host: str) -> None:
    async def main() -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo)
                async with anyio.create_task_group() as clients:
                    for _ in range(20):
                        clients.start_soon(converse, await anyio.connect_tcp(host, port), 16)
                group.cancel_scope.cancel()

    run_anyio(main)


def test_unix_echo_with_half_close(run_anyio: Callable[..., Any], tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "s"
        async with await anyio.create_unix_listener(path) as listener:
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo)
                await converse(await anyio.connect_unix(path), 64)
                group.cancel_scope.cancel()

    run_anyio(main)


def test_file_descriptors_over_a_unix_socket(run_anyio: Callable[..., Any], tmp_path: Path) -> None:
    """AnyIO does this with add_reader and add_writer on a raw socket."""
    sent_file = tmp_path / "sent"
    sent_file.write_text("by descriptor")

    async def main() -> None:
        async def hand_over(stream: Any) -> None:
            async with stream:
                with sent_file.open() as file:
                    await stream.send_fds(b"here", [file])

        async with await anyio.create_unix_listener(tmp_path / "s") as listener:
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, hand_over)
                async with await anyio.connect_unix(tmp_path / "s") as stream:
                    message, fds = await stream.receive_fds(10, 1)
                group.cancel_scope.cancel()
        assert message == b"here"
        with open(fds[0]) as received:
            assert received.read() == "by descriptor"

    run_anyio(main)


def test_tls_echo(run_anyio: Callable[..., Any], tls: Any) -> None:
    async def echo_without_half_close(stream: Any) -> None:
        async with stream:
            async for piece in stream:
                await stream.send(piece)

    async def main() -> None:
        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with streams_tls.TLSListener(tcp, tls.server) as listener:
            port = tcp.extra(anyio.abc.SocketAttribute.local_port)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo_without_half_close)
                stream = await anyio.connect_tcp("127.0.0.1", port, ssl_context=tls.client)
                async with stream:
                    for _ in range(8):
                        await stream.send(PIECE)
                        received = bytearray()
                        while len(received) < len(PIECE):
                            received += await stream.receive()
                        assert received == PIECE
                group.cancel_scope.cancel()

    run_anyio(main)


def test_refused_connection(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            with pytest.raises(OSError):
                await anyio.connect_tcp("127.0.0.1", unheard.getsockname()[1])

    run_anyio(main)


def test_receive_is_cancelled_and_the_stream_lives_on(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo)
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    for _ in range(10):
                        with anyio.move_on_after(0.01) as scope:
                            await stream.receive()
                        assert scope.cancelled_caught
                    await stream.send(b"still here")
                    assert await stream.receive() == b"still here"
                    async with anyio.create_task_group() as readers:
                        readers.start_soon(stream.receive)
                        await anyio.wait_all_tasks_blocked()
                        with pytest.raises(anyio.BusyResourceError):
                            await stream.receive()
                        readers.cancel_scope.cancel()
                group.cancel_scope.cancel()

    run_anyio(main)


def test_waits_for_raw_sockets(run_anyio: Callable[..., Any]) -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            await anyio.wait_writable(left)
            with anyio.move_on_after(0.01) as scope:
                await anyio.wait_readable(right)
            assert scope.cancelled_caught
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, right)
                await anyio.wait_all_tasks_blocked()
                left.send(b"x")
            await anyio.wait_readable(right.fileno())
            assert right.recv(10) == b"x"

            async with anyio.create_task_group() as group:

                async def interrupted() -> None:
                    with pytest.raises(anyio.ClosedResourceError):
                        await anyio.wait_readable(right)

                group.start_soon(interrupted)
                await anyio.wait_all_tasks_blocked()
                anyio.notify_closing(right)

    run_anyio(main)
