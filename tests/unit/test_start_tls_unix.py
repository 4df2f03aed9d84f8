"""`loop.start_tls` on both ends of a connection over a Unix socket, and its streams."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder, next_turns
from tls_peer import Peer, client_context, close_both, server_context

Loop = asyncio.AbstractEventLoop


pytestmark = pytest.mark.usefixtures("connection_class")


async def unix_pair(path: str) -> tuple[Recorder, Recorder]:
    """A connected server protocol and client protocol, plain."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Recorder] = loop.create_future()

    def factory() -> Recorder:
        accepted.set_result(Recorder())
        return accepted.result()

    listening = await loop.create_unix_server(factory, path)
    _, client = await loop.create_unix_connection(Recorder, path)
    server = await accepted
    await server.made
    listening.close()
    return server, client


async def upgrade(server: Recorder, client: Recorder, name: str = "localhost") -> None:
    loop = asyncio.get_running_loop()
    server.transport, client.transport = await asyncio.gather(  # type: ignore[assignment]
        loop.start_tls(server.transport, server, server_context(), server_side=True),
        loop.start_tls(client.transport, client, client_context(), server_hostname=name),
    )


@pytest.fixture(params=["file", "abstract"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "socket") if request.param == "file" else f"\0{tmp_path}"


async def test_both_ends_upgrade(loop: Loop, path: str) -> None:
    server, client = await unix_pair(path)
    client.transport.write(b"STARTTLS")
    assert await server.wait_received(8) == b"STARTTLS"
    server.transport.write(b"READY")
    assert await client.wait_received(5) == b"READY"
    plain = server.transport
    await upgrade(server, client)
    assert server.transport is not plain
    data = bytes(range(256)) * 4000
    client.transport.write(data)
    server.transport.write(data)
    assert await server.wait_received(8 + len(data)) == b"STARTTLS" + data
    assert await client.wait_received(5 + len(data)) == b"READY" + data
    assert server.transport.get_extra_info("sockname") == plain.get_extra_info("sockname")
    assert client.transport.get_extra_info("peercert")["subject"]
    assert client.transport.get_extra_info("socket").family.name == "AF_UNIX"
    await close_both(client, server)
    assert server.events[-2:] == client.events[-2:] == ["eof", "lost"]


async def test_a_peer_with_another_name_is_refused(loop: Loop, path: str) -> None:
    server, client = await unix_pair(path)
    with pytest.raises(ssl.SSLCertVerificationError):
        await upgrade(server, client, "elsewhere")
    await next_turns(10)
    assert client.transport.is_closing() and server.transport.is_closing()


async def test_what_was_written_plain_arrives_plain(loop: Loop, path: str) -> None:
    """Bytes that still wait in the transport go before the handshake."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        _, client = await loop.create_unix_connection(Recorder, path)
        peer = Peer(listening.accept()[0], server_side=True)
    peer.sock.setblocking(False)
    data = bytes(range(256)) * 8000
    # Paused before, asyncio's TLS reports that it is resumed.
    client.transport.set_write_buffer_limits(high=len(data))
    client.transport.write(data)
    assert client.transport.get_write_buffer_size() > 0
    upgrading: Any = loop.create_task(
        loop.start_tls(client.transport, client, client_context(), server_hostname="localhost")
    )
    received = b""
    while len(received) < len(data):
        received += await loop.sock_recv(peer.sock, len(data) - len(received))
    assert received == data
    _, client.transport = await asyncio.gather(peer.handshake(), upgrading)
    client.transport.write(b"secret")
    assert await peer.read(6) == b"secret"
    client.transport.abort()
    await client.lost
    peer.close()


async def test_streams_upgrade(loop: Loop, path: str) -> None:
    lines: list[bytes] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"go\n")
        await writer.start_tls(server_context())
        lines.append(await reader.readline())
        writer.write(b"bye\n")
        await writer.drain()
        writer.close()
        served.set()

    listening = await asyncio.start_unix_server(serve, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    writer.write(b"secret\n")
    assert await reader.readline() == b"bye\n"
    assert await reader.read() == b""
    await served.wait()
    assert lines == [b"STARTTLS\n", b"secret\n"]
    writer.close()
    listening.close()
    await next_turns(3)


async def test_an_upgrade_that_is_aborted(loop: Loop, path: str) -> None:
    server, client = await unix_pair(path)
    upgrading: Any = loop.create_task(
        loop.start_tls(server.transport, server, server_context(), server_side=True)
    )
    await next_turns(3)
    client.transport.abort()
    with pytest.raises(ConnectionError):
        await upgrading
    assert server.transport.is_closing()
    await client.lost
