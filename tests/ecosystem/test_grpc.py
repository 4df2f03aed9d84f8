"""grpc.aio, server and client in one loop: calls of every kind, deadlines, cancellation, TLS.

The library has an event engine of its own in C, and wakes the loop from its threads by a socket
that the loop reads. No messages are generated: bytes are sent as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")


async def double(request: bytes, context: Any) -> bytes:
    return request * 2


async def letters(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for letter in request:
        yield bytes([letter])


async def joined(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([request async for request in requests])


async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def never(request: bytes, context: Any) -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("not reached")


async def refused(request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
    raise AssertionError("not reached")


METHODS = {
    "double": grpc.unary_unary_rpc_method_handler(double),
    "letters": grpc.unary_stream_rpc_method_handler(letters),
    "joined": grpc.stream_unary_rpc_method_handler(joined),
    "echo": grpc.stream_stream_rpc_method_handler(echo),
    "never": grpc.unary_unary_rpc_method_handler(never),
    "refused": grpc.unary_unary_rpc_method_handler(refused),
}


@contextlib.asynccontextmanager
async def served(certificate: Any = None) -> AsyncIterator[Any]:
    """A channel to a server with METHODS; over TLS with a certificate of trustme."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", METHODS),))
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    else:
        authority, issued = certificate
        key, chain = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
        credentials = grpc.ssl_server_credentials([(key, chain)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        channel = grpc.aio.secure_channel(f"localhost:{port}", trusted)
    await server.start()
    async with channel:
        yield channel
    await server.stop(None)


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def test_calls_of_every_kind(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with served() as channel:
            assert await channel.unary_unary("/test/double")(b"ab") == b"abab"
            assert [part async for part in channel.unary_stream("/test/letters")(b"abc")] == [
                b"a",
                b"b",
                b"c",
            ]
            assert await channel.stream_unary("/test/joined")(in_pieces(b"a", b"bc")) == b"abc"
            call = channel.stream_stream("/test/echo")()
            for number in range(100):
                await call.write(b"%d" % number)
                assert await call.read() == b"%d" % number
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

    run(main())


def test_many_calls_at_a_time(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with served() as channel:
            call = channel.unary_unary("/test/double")
            large = bytes(1 << 20)
            answers = await asyncio.gather(*[call(b"%d" % number) for number in range(300)])
            assert answers == [b"%d" % number * 2 for number in range(300)]
            assert await call(large) == large * 2

    run(main())


def test_deadlines_errors_and_cancellation(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with served() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await channel.unary_unary("/test/never")(b"", timeout=0.1)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            with pytest.raises(grpc.aio.AioRpcError) as forbidden:
                await channel.unary_unary("/test/refused")(b"")
            assert forbidden.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert forbidden.value.details() == "not you"
            call = channel.unary_unary("/test/never")(b"")
            waiting = asyncio.ensure_future(call)
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(channel.unary_unary("/test/never")(b""), 0.05)
            assert await channel.unary_unary("/test/double")(b"ab") == b"abab"

    run(main())


def test_over_tls(run: Callable[..., Any]) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority, authority.issue_cert("localhost")

    async def main() -> None:
        async with served(certificate) as channel:
            assert await channel.unary_unary("/test/double")(b"ab") == b"abab"

    run(main())
