"""TLS 1.2 and what a peer may ask for within a connection: renegotiation, TLS 1.3 new keys.

OpenSSL decides; the loop has to feed it and to send what it answers. The outcome is the same on
both loops. Renegotiation is asked for by `openssl s_client`, with an R at the start of a line.
"""

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from recorder import Recorder
from tls_peer import client_context, close_both, server_context, tls_pair

Loop = asyncio.AbstractEventLoop

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
NEVER = ssl.OP_NO_RENEGOTIATION
ALLOW = 1 << 8  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, without which OpenSSL 3 refuses


pytestmark = pytest.mark.usefixtures("connection_class")


def tls_1_2(context: ssl.SSLContext, options: int = 0) -> ssl.SSLContext:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= options
    return context


@pytest.mark.parametrize("options", [0, NEVER])
async def test_tls_1_2_carries_bytes(loop: Loop, options: int) -> None:
    server, client = tls_1_2(server_context(), options), tls_1_2(client_context(), options)
    served, connected = await tls_pair(server=server, client=client)
    for protocol in (served, connected):
        assert protocol.transport.get_extra_info("ssl_object").version() == "TLSv1.2"
    data = bytes(range(256)) * 4000
    served.transport.write(data)
    connected.transport.write(data)
    assert await served.wait_received(len(data)) == data
    assert await connected.wait_received(len(data)) == data
    await close_both(connected, served)
    assert served.events[-1] == connected.events[-1] == "lost"


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class Client:
    """A process of `openssl s_client`, fed by its standard input."""

    def __init__(self, process: Any, served: Any) -> None:
        self.process = process
        self.served = served
        self.said = b""

    async def say(self, line: bytes) -> None:
        self.process.stdin.write(line + b"\n")
        await self.process.stdin.drain()

    async def ask(self, letter: bytes, answer: bytes) -> None:
        """Type a command; what comes after it in one piece would be dropped."""
        count = self.said.count(answer) + 1
        await self.say(letter)
        await self.wait_said(answer, count)

    async def wait_said(self, words: bytes, count: int = 1) -> None:
        while self.said.count(words) < count:
            more = await self.process.stdout.read(1 << 16)
            assert more, self.said
            self.said += more

    async def end(self) -> None:
        self.process.stdin.close()
        self.said += await self.process.stdout.read()
        await self.process.wait()


@contextlib.asynccontextmanager
async def s_client(loop: Loop, context: ssl.SSLContext, *options: str) -> AsyncIterator[Client]:
    """A client that has sent a line and got it back."""
    accepted: asyncio.Future[Any] = loop.create_future()

    def factory() -> Recorder:
        echo = Echo()
        accepted.set_result(echo)
        return echo

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(str(OPENSSL), "s_client", "-connect", f"127.0.0.1:{port}", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        served = await accepted
        await served.made
        server.close()
        client = Client(process, served)
        await client.say(b"first")
        await client.wait_said(b"\nfirst\n")
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


older = pytest.mark.skipif(ssl.OPENSSL_VERSION_INFO < (3,), reason="it serves them by itself")


@needs_openssl
@pytest.mark.parametrize("options", [pytest.param(0, marks=older), NEVER])
async def test_renegotiation_is_refused(loop: Loop, options: int) -> None:
    """OpenSSL 3 refuses unless told otherwise; the client takes that as the end."""
    async with s_client(loop, tls_1_2(server_context(), options), "-tls1_2") as client:
        await client.say(b"R")
        error = await client.served.lost
        await client.end()
    assert b"RENEGOTIATING" in client.said
    assert b"no renegotiation" in client.said
    assert client.served.received == b"first\n"
    assert error is None or isinstance(error, (ssl.SSLError, ConnectionError))


@needs_openssl
async def test_renegotiation_is_served_if_the_context_allows_it(loop: Loop) -> None:
    context = tls_1_2(server_context(), ALLOW)
    async with s_client(loop, context, "-tls1_2") as client:
        for word in (b"second", b"third"):
            await client.ask(b"R", b"RENEGOTIATING\n")
            await client.say(word)
            await client.wait_said(b"\n" + word + b"\n")
        assert client.served.received == b"first\nsecond\nthird\n"
        await client.say(b"Q")
        assert await client.served.lost is None
        await client.end()


@needs_openssl
async def test_new_keys_of_tls_1_3(loop: Loop) -> None:
    """K: new keys for the client's direction and a request for the server's."""
    async with s_client(loop, server_context(), "-tls1_3") as client:
        for word in (b"second", b"third", b"fourth"):
            await client.ask(b"K", b"KEYUPDATE\n")
            await client.say(word)
            await client.wait_said(b"\n" + word + b"\n")
        assert client.served.received == b"first\nsecond\nthird\nfourth\n"
        await client.say(b"Q")
        assert await client.served.lost is None
        await client.end()
