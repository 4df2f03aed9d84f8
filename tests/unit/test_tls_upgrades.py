"""TLS where it is more than a connection: upgrades, TLS inside TLS, callbacks, ends of objects."""

import asyncio
import gc
import ssl
import weakref
from asyncio import constants
from typing import Any

import loops
import pytest
from recorder import Recorder, next_turns
from tls_peer import (
    Peer,
    client_context,
    close_both,
    server_context,
    socket_pair,
    tls_pair,
    with_peer,
)

Loop = asyncio.AbstractEventLoop


pytestmark = pytest.mark.usefixtures("connection_class")


async def start_tls_both(client: Recorder, server: Recorder) -> None:
    """Put TLS on both ends of a connection, plain or not."""
    loop = asyncio.get_running_loop()
    server.transport, client.transport = await asyncio.gather(  # type: ignore[assignment]
        loop.start_tls(server.transport, server, server_context(), server_side=True),
        loop.start_tls(client.transport, client, client_context(), server_hostname="localhost"),
    )


async def test_start_tls_and_tls_inside_tls(loop: Loop) -> None:
    accepted: asyncio.Future[Recorder] = loop.create_future()

    class Accepted(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            accepted.set_result(self)

    listening = await loop.create_server(Accepted, "127.0.0.1", 0)
    _, client = await loop.create_connection(Recorder, *listening.sockets[0].getsockname())
    server = await accepted
    total = 0
    for depth in range(3):
        data = bytes([65 + depth]) * 300_000
        client.transport.write(data)
        server.transport.write(data)
        total += len(data)
        await server.wait_received(total)
        await client.wait_received(total)
        await start_tls_both(client, server)
    assert server.received == client.received
    assert client.transport.get_extra_info("peername") == listening.sockets[0].getsockname()
    client.transport.close()
    await client.lost
    await server.lost
    assert server.events[-2:] == ["eof", "lost"]
    listening.close()


async def test_start_tls_that_fails_closes(loop: Loop) -> None:
    ours, theirs = socket_pair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    theirs.send(b"this is no ServerHello\n")
    with pytest.raises(ssl.SSLError):
        await loop.start_tls(transport, protocol, client_context(), server_hostname="localhost")
    await next_turns(5)
    assert transport.is_closing()
    theirs.close()


async def test_a_context_of_the_users_own_class(loop: Loop) -> None:
    """The methods of an `sslobject_class` are called."""
    reads: list[int] = []

    class Counted(ssl.SSLObject):
        def read(self, len: int = 1024, buffer: Any = None) -> Any:
            reads.append(len)
            return super().read(len, buffer)

    context = server_context()
    context.sslobject_class = Counted
    served, connected = await tls_pair(server=context)
    connected.transport.write(b"hello")
    assert await served.wait_received(5) == b"hello"
    assert reads
    assert type(served.transport.get_extra_info("ssl_object")) is Counted
    await close_both(connected, served)


@pytest.mark.parametrize("loop_name", [name for name in loops.names() if name == "oxloop"])
async def test_data_goes_past_the_methods_of_ssl_if_nobody_needs_them(
    loop: Loop, connection_class: str
) -> None:
    client = client_context()
    seen: list[Any] = []
    client._msg_callback = lambda *message: seen.append(message)  # type: ignore[attr-defined]
    served, connected = await tls_pair(client=client)
    assert served.transport._is_direct is (connection_class == "plain")
    assert not connected.transport._is_direct
    before = len(seen)
    served.transport.write(b"hello")
    assert await connected.wait_received(5) == b"hello"
    assert len(seen) > before
    await close_both(connected, served)


async def test_everything_written_before_close_arrives(loop: Loop) -> None:
    transport, protocol, peer = await with_peer()
    data = bytes(range(256)) * 8192
    for _ in range(4):
        transport.write(data)
    transport.close()
    assert await peer.read(5 * len(data)) == data * 4
    await peer.unwrap()
    assert await protocol.lost is None
    peer.close()


async def test_the_defaults_are_asyncios_constants(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "SSL_HANDSHAKE_TIMEOUT", 0.05)
    ours, theirs = socket_pair()
    with theirs, pytest.raises(ConnectionAbortedError, match="longer than 0.05 seconds"):
        await loop.connect_accepted_socket(Recorder, ours, ssl=server_context())


async def test_a_server_name_callback_that_aborts(loop: Loop) -> None:
    """The engine is in the middle of a call when its transport ends."""
    context = server_context()
    transports: list[Any] = []
    context.sni_callback = lambda *_: transports[0].abort()
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    plain, protocol = await loop.create_connection(Recorder, sock=ours)
    transports.append(plain)
    upgrade = loop.create_task(loop.start_tls(plain, protocol, context, server_side=True))
    with pytest.raises((EOFError, ConnectionError)):
        await peer.handshake()
    await asyncio.wait([upgrade])
    upgrade.exception()
    peer.close()
    await next_turns(3)


async def test_nothing_is_left_for_the_collector(loop: Loop) -> None:
    gc.collect()
    gc.disable()
    try:
        served, connected = await tls_pair()
        connected.transport.write(b"x" * 100_000)
        await served.wait_received(100_000)
        await close_both(connected, served)
        if type(served.transport).__module__.startswith("asyncio"):
            return  # asyncio's own needs the collector
        ends = [weakref.ref(served.transport), weakref.ref(connected.transport)]
        del served.transport, connected.transport
        await next_turns(3)
        assert [end() for end in ends] == [None, None]
    finally:
        gc.enable()
