"""`start_tls` of a server whose client's first TLS bytes came together with the plain request.

A client may send its ClientHello right behind the line that asks for TLS. Both then stand in the
reader's buffer when the server upgrades; the rest belongs to the handshake. Plain bytes that
somebody put between the two must make the handshake fail, never arrive as if they had been
encrypted. The certificates are those of CPython's own tests, which not every Python has.
"""

import asyncio
import socket
import ssl

import loops
import pytest
from recorder import next_turns

tls = pytest.importorskip(
    "test.test_asyncio.utils", reason="this Python comes without its own tests"
)

Loop = asyncio.AbstractEventLoop

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


class Client:
    """The client's side of TLS in memory, so that the test decides what goes into one segment."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = tls.simple_client_sslcontext()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    def hello(self) -> bytes:
        """The ClientHello."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    async def handshake(self) -> bool:
        """Go on after the hello; False if the server hangs up instead."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                received = await loop.sock_recv(self.sock, 65536)
            except ConnectionResetError:
                return False
            if not received:
                return False
            self.incoming.write(received)
            try:
                self.tls.do_handshake()
                return True
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
            finally:
                await loop.sock_sendall(self.sock, self.outgoing.read())

    async def send(self, data: bytes) -> None:
        self.tls.write(data)
        await asyncio.get_running_loop().sock_sendall(self.sock, self.outgoing.read())


async def serve(got: asyncio.Future[bytes]) -> asyncio.Server:
    """A server that upgrades after the first line; `got` is the next line, or the failure."""

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readline() == b"STARTTLS\n"
            await writer.start_tls(tls.simple_server_sslcontext())
            got.set_result(await reader.readline())
        except Exception as error:
            got.set_exception(error)
        finally:
            writer.close()

    return await asyncio.start_server(upgrade, "127.0.0.1", 0)


async def connect(server: asyncio.Server) -> Client:
    sock = socket.socket()
    sock.setblocking(False)
    address = server.sockets[0].getsockname()
    await asyncio.get_running_loop().sock_connect(sock, address)
    return Client(sock)


@only_ours
async def test_the_hello_in_the_segment_of_the_request(loop: Loop) -> None:
    """On oxloop only: asyncio leaves the hello in the reader's buffer and waits for ever."""
    got: asyncio.Future[bytes] = loop.create_future()
    server = await serve(got)
    client = await connect(server)
    await loop.sock_sendall(client.sock, b"STARTTLS\n" + client.hello())
    assert await client.handshake()
    await client.send(b"encrypted\n")
    assert await got == b"encrypted\n"
    client.sock.close()
    server.close()


@only_ours
async def test_plain_bytes_before_the_hello_are_refused(loop: Loop) -> None:
    """On oxloop only: asyncio leaves them, and the hello, in the reader's buffer."""
    got: asyncio.Future[bytes] = loop.create_future()
    server = await serve(got)
    client = await connect(server)
    await loop.sock_sendall(client.sock, b"STARTTLS\nINJECTED\n" + client.hello())
    assert not await client.handshake()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await got
    client.sock.close()
    server.close()


@only_ours
@pytest.mark.parametrize("size", [1, 100])
async def test_the_hello_in_two_segments(loop: Loop, size: int) -> None:
    """On oxloop only, as above: the first piece comes with the request, the second after it."""
    got: asyncio.Future[bytes] = loop.create_future()
    server = await serve(got)
    client = await connect(server)
    hello = client.hello()
    await loop.sock_sendall(client.sock, b"STARTTLS\n" + hello[:size])
    await next_turns(5)
    await loop.sock_sendall(client.sock, hello[size:])
    assert await client.handshake()
    await client.send(b"encrypted\n")
    assert await got == b"encrypted\n"
    client.sock.close()
    server.close()
