"""`create_server` and servers: addresses, options, starting, serving, closing, clients."""

import asyncio
import socket
import sys
from typing import Any

import loops
import pytest
from loops import Factory
from recorder import Recorder, next_turns

Loop = asyncio.AbstractEventLoop

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


async def connect(loop: Loop, server: asyncio.Server, index: int = 0) -> Recorder:
    address = server.sockets[index].getsockname()
    _, protocol = await loop.create_connection(Recorder, *address[:2])
    return protocol


async def test_serving(loop: Loop) -> None:
    accepted: list[Recorder] = []

    def factory() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    assert isinstance(server, asyncio.AbstractServer)
    assert server.is_serving()
    assert server.get_loop() is loop
    (listening,) = server.sockets
    assert listening.getsockname()[1] != 0
    client = await connect(loop, server)
    client.transport.write(b"hello")
    while not accepted:
        await asyncio.sleep(0)
    assert await accepted[0].wait_received(5) == b"hello"
    assert accepted[0].transport.get_extra_info("peername") == client.transport.get_extra_info(
        "sockname"
    )
    client.transport.close()
    await accepted[0].lost
    server.close()
    server.close()
    assert server.sockets == ()
    assert not server.is_serving()
    await server.wait_closed()


async def test_several_hosts_and_duplicates(loop: Loop) -> None:
    server = await loop.create_server(Recorder, ["127.0.0.1", "127.0.0.2", "127.0.0.1"], 0)
    hosts = sorted(sock.getsockname()[0] for sock in server.sockets)
    assert hosts == ["127.0.0.1", "127.0.0.2"]
    for index in range(2):
        (await connect(loop, server, index)).transport.close()
    server.close()


@pytest.mark.parametrize("host", [None, ""])
async def test_every_interface(loop: Loop, host: str | None) -> None:
    server = await loop.create_server(Recorder, host, 0)
    families = {sock.family for sock in server.sockets}
    assert socket.AF_INET in families
    for sock in server.sockets:
        if sock.family == socket.AF_INET6:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    server.close()


async def test_address_in_use(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with pytest.raises(OSError, match="error while attempting to bind on address") as caught:
        await loop.create_server(Recorder, *address)
    assert str(address) in str(caught.value)
    server.close()


async def test_options(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    (sock,) = server.sockets
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    server.close()
    one = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
    port = one.sockets[0].getsockname()[1]
    two = await loop.create_server(Recorder, "127.0.0.1", port, reuse_port=True)
    assert two.sockets[0].getsockname()[1] == port
    one.close()
    two.close()


async def test_given_socket(loop: Loop) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Recorder, sock=sock)
    assert server.sockets[0].fileno() == sock.fileno()
    client = await connect(loop, server)
    client.transport.close()
    server.close()
    await next_turns(3)
    assert sock.fileno() == -1


async def test_bad_arguments(loop: Loop) -> None:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for arguments, kind, text in (
            ({}, ValueError, "Neither host/port nor sock were specified"),
            (
                {"host": "127.0.0.1", "port": 0, "sock": stream},
                ValueError,
                "host/port and sock can not be specified at the same time",
            ),
            ({"sock": datagram}, ValueError, "A Stream Socket was expected"),
            ({"host": "127.0.0.1", "port": 0, "ssl": True}, TypeError, "ssl argument must be"),
            (
                {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
                ValueError,
                "ssl_handshake_timeout is only meaningful with ssl",
            ),
        ):
            with pytest.raises(kind, match=text):
                await loop.create_server(Recorder, **arguments)  # type: ignore[arg-type]


async def test_start_serving_false(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await connect(loop, server)
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    (await connect(loop, server)).transport.close()
    server.close()


async def test_serve_forever_ends_by_cancellation(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    serving = loop.create_task(server.serve_forever())
    await next_turns(2)
    assert server.is_serving()
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        await server.serve_forever()
    client = await connect(loop, server)
    client.transport.close()
    await client.lost
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    assert server.sockets == ()


async def test_serve_forever_of_a_closed_server(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server.close()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_closed_loop_serves_nobody(loop: Loop, loop_factory: Factory) -> None:
    other = loop_factory()
    server = await other.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    other.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        await server.start_serving()
    server.close()
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            await other.create_server(Recorder, host, 0)


@only_ours
async def test_no_socket_stays_on_a_closed_loop(loop: Loop, loop_factory: Factory) -> None:
    """Neither a socket that nobody knows, nor the loss of one that was given."""
    other = loop_factory()
    other.close()
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            await other.create_server(Recorder, sock=given)
        address = given.getsockname()
    with pytest.raises(RuntimeError, match="Event loop is closed") as raised:
        await other.create_server(Recorder, *address)
    # The error holds whatever was left open.
    with socket.socket() as successor:
        successor.bind(address)
    assert raised.value.__context__ is None


async def test_as_a_context(loop: Loop) -> None:
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as server:
        assert server.is_serving()
    assert not server.is_serving()


async def test_close_keeps_the_connections(loop: Loop) -> None:
    accepted = loop.create_future()

    def factory() -> Recorder:
        accepted.set_result(Recorder())
        return accepted.result()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    client = await connect(loop, server)
    served = await accepted
    await served.made
    server.close()
    client.transport.write(b"still here")
    assert await served.wait_received(10) == b"still here"
    waiting = loop.create_task(server.wait_closed())
    await next_turns(5)
    assert waiting.done() is (sys.version_info < (3, 12))
    client.transport.close()
    await served.lost
    await waiting


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close_clients is new in Python 3.13")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
async def test_ending_the_clients(loop: Loop, how: str) -> None:
    accepted: list[Recorder] = []

    def factory() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    clients = [await connect(loop, server) for _ in range(3)]
    while len(accepted) < 3:
        await asyncio.sleep(0)
    await asyncio.gather(*(each.made for each in accepted))
    server.close()
    getattr(server, how)()
    await server.wait_closed()
    for protocol in (*accepted, *clients):
        await protocol.lost
    assert all(each.events == ["made", "lost"] for each in accepted)


async def test_wait_closed_without_connections(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()
    await server.wait_closed()


async def test_many_clients_at_once(loop: Loop) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=200)

    async def talk(number: int) -> None:
        client = await connect(loop, server)
        word = b"%04d" % number * 1000
        client.transport.write(word)
        assert await client.wait_received(len(word)) == word
        client.transport.close()
        await client.lost

    await asyncio.gather(*(talk(number) for number in range(100)))
    server.close()


async def test_context_of_connections(loop: Loop) -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    lost = asyncio.Event()

    class Look(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            seen.append(variable.get())

        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())

        def connection_lost(self, exc: object) -> None:
            seen.append(variable.get())
            lost.set()

    variable.set("at the start of the server")
    server = await loop.create_server(Look, "127.0.0.1", 0)
    variable.set("later")
    client = await connect(loop, server)
    client.transport.write(b"x")
    client.transport.close()
    await lost.wait()
    assert seen == ["at the start of the server"] * 3
    server.close()


async def test_streams(loop: Loop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.writelines([b"one\n", b"two\n"])
    writer.write_eof()
    assert await reader.read() == b"ONE\nTWO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
