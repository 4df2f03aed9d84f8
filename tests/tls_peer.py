"""The other end of a TLS connection, in memory, so that a test decides what goes on the wire.

`Peer` does the TLS of one side by hand over a plain non-blocking socket: every byte that is sent
is sent by the test, in the segments that it chooses. The certificates in `certificates/` are for
`localhost` and 127.0.0.1, signed by themselves, valid for a hundred years; their keys are public.
"""

import asyncio
import functools
import socket
import ssl
from pathlib import Path
from typing import Any

from recorder import Recorder

CERTIFICATES = Path(__file__).parent / "certificates"
SERVER = CERTIFICATES / "localhost.pem"
CLIENT = CERTIFICATES / "client.pem"


def server_context() -> ssl.SSLContext:
    """The context of a server that is `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SERVER)
    return context


def client_context() -> ssl.SSLContext:
    """The context of a client that trusts `server_context` and checks its name."""
    return ssl.create_default_context(cafile=str(SERVER))


# Making a context takes longer than a handshake.
_peers_server = functools.cache(server_context)
_peers_client = functools.cache(client_context)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking stream sockets."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


class Peer:
    """One side of TLS over `sock`, which it owns."""

    def __init__(self, sock: socket.socket, *, server_side: bool = False) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _peers_server() if server_side else _peers_client()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )

    def hello(self) -> bytes:
        """The ClientHello."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self.outgoing.read()
        raise AssertionError("a handshake without a server")

    async def flush(self) -> None:
        """Send what TLS has for the other side."""
        if self.outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self.sock, self.outgoing.read())

    async def receive(self) -> bool:
        """Take what has come from the other side; False at its end."""
        received = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
        self.incoming.write(received)
        return bool(received)

    async def handshake(self) -> None:
        """From wherever it is to the end of the handshake; EOFError if the other side hangs up."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                if not await self.receive():
                    raise EOFError("hung up during the handshake") from None
            else:
                await self.flush()
                return

    async def send(self, data: bytes) -> None:
        """Encrypt and send."""
        self.tls.write(data)
        await self.flush()

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end of TLS or of the connection."""
        got = bytearray()
        while len(got) < size:
            try:
                data = self.tls.read(size - len(got))
            except ssl.SSLWantReadError:
                if not await self.receive():
                    break
                continue
            if not data:
                break
            got += data
        return bytes(got)

    async def unwrap(self) -> None:
        """Send the close_notify and wait for the other side's, or its end."""
        while True:
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                await self.flush()
                if not await self.receive():
                    return
            else:
                await self.flush()
                return

    def close_notify(self) -> bytes:
        """The close_notify, not sent."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


async def tls_pair(
    server_protocol: Any = Recorder,
    client_protocol: Any = Recorder,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
) -> tuple[Any, Any]:
    """A connected server protocol and client protocol, with TLS over TCP."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Any] = loop.create_future()

    class Accepted(server_protocol):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            accepted.set_result(self)

    listening = await loop.create_server(Accepted, "127.0.0.1", 0, ssl=server or server_context())
    address = listening.sockets[0].getsockname()
    _, connected = await loop.create_connection(
        client_protocol, *address, ssl=client or client_context(), server_hostname="localhost"
    )
    served = await accepted
    listening.close()
    return served, connected


async def with_peer(protocol: Any = Recorder, **options: Any) -> tuple[Any, Any, Peer]:
    """A server's transport, its protocol, and the client at the other end of it."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    serving = loop.connect_accepted_socket(protocol, ours, ssl=server_context(), **options)
    (transport, made), _ = await asyncio.gather(serving, peer.handshake())
    return transport, made, peer


async def close_both(*protocols: Any) -> None:
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.lost
