"""The `sock_*` calls: all of them, both directions, cancelled half-way, wrong sockets."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop
Pair = tuple[socket.socket, socket.socket]


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    yield one, two
    one.close()
    two.close()


async def test_recv_now_and_later(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    peer.send(b"now")
    assert await loop.sock_recv(ours, 10) == b"now"
    receiving = loop.create_task(loop.sock_recv(ours, 10))
    await next_turns(2)
    assert not receiving.done()
    peer.send(b"later")
    assert await receiving == b"later"
    peer.close()
    assert await loop.sock_recv(ours, 10) == b""


async def test_recv_into(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    buffer = bytearray(8)
    receiving = loop.create_task(loop.sock_recv_into(ours, buffer))
    await next_turns(2)
    peer.send(b"abc")
    assert await receiving == 3
    assert buffer == b"abc\0\0\0\0\0"
    peer.send(b"xy")
    assert await loop.sock_recv_into(ours, memoryview(buffer)[4:]) == 2
    assert buffer == b"abc\0xy\0\0"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_sendall_of_much(loop: Loop, pair: Pair, kind: Any) -> None:
    ours, peer = pair
    data = bytes(range(256)) * 16384
    sending = loop.create_task(loop.sock_sendall(ours, kind(data)))
    received = bytearray()
    while len(received) < len(data):
        received += await loop.sock_recv(peer, 1 << 20)
    assert await sending is None
    assert received == data


async def test_both_directions_of_one_socket_at_once(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    data = b"0123456789abcdef" * 65536

    async def receive(sock: socket.socket) -> bytes:
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(sock, 65536)
        return bytes(received)

    _, _, one, two = await asyncio.gather(
        loop.sock_sendall(ours, data),
        loop.sock_sendall(peer, data),
        receive(ours),
        receive(peer),
    )
    assert one == two == data


async def test_a_cancelled_recv_takes_nothing(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    receiving = loop.create_task(loop.sock_recv(ours, 10))
    await next_turns(2)
    receiving.cancel()
    await asyncio.wait([receiving])
    assert receiving.cancelled()
    assert loop.remove_reader(ours) is False
    peer.send(b"kept")
    await next_turns(3)
    assert await loop.sock_recv(ours, 10) == b"kept"


async def test_a_recv_cancelled_in_the_turn_of_its_data(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    receiving = loop.create_task(loop.sock_recv(ours, 10))
    await next_turns(2)
    peer.send(b"kept")
    receiving.cancel()
    await asyncio.wait([receiving])
    assert receiving.cancelled()
    assert await loop.sock_recv(ours, 10) == b"kept"


async def test_a_cancelled_sendall_leaves_the_socket_usable(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    sending = loop.create_task(loop.sock_sendall(ours, b"x" * (8 << 20)))
    await next_turns(3)
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    assert loop.remove_writer(ours) is False
    ours.shutdown(socket.SHUT_WR)
    received = 0
    while chunk := await loop.sock_recv(peer, 1 << 20):
        assert chunk.strip(b"x") == b""
        received += len(chunk)
    assert 0 < received < 8 << 20
    peer.send(b"back")
    assert await loop.sock_recv(ours, 10) == b"back"


async def test_cancelling_one_direction_keeps_the_other(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    receiving = loop.create_task(loop.sock_recv(ours, 10))
    sending = loop.create_task(loop.sock_sendall(ours, b"x" * (8 << 20)))
    await next_turns(3)
    sending.cancel()
    await asyncio.wait([sending])
    peer.send(b"answer")
    assert await receiving == b"answer"


async def test_connect_and_accept(loop: Loop) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    accepting = loop.create_task(loop.sock_accept(listener))
    await next_turns(2)
    client = socket.socket()
    client.setblocking(False)
    assert await loop.sock_connect(client, listener.getsockname()) is None
    served, address = await accepting
    assert address == client.getsockname()
    assert served.gettimeout() == 0
    await loop.sock_sendall(client, b"hi")
    assert await loop.sock_recv(served, 10) == b"hi"
    for each in (listener, client, served):
        each.close()


async def test_a_cancelled_accept_loses_no_connection(loop: Loop) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    accepting = loop.create_task(loop.sock_accept(listener))
    await next_turns(2)
    accepting.cancel()
    await asyncio.wait([accepting])
    client = socket.create_connection(listener.getsockname())
    served, _ = await loop.sock_accept(listener)
    assert served.getpeername() == client.getsockname()
    for each in (listener, client, served):
        each.close()


async def test_refused_connection(loop: Loop) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, address)


async def test_connect_resolves_names_through_the_loop(loop: Loop) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
    assert client.getpeername() == listener.getsockname()
    listener.close()
    client.close()


async def test_connect_unix(loop: Loop, tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    await loop.sock_connect(client, path)
    assert client.getpeername() == path
    listener.close()
    client.close()


async def test_datagrams(loop: Loop) -> None:
    one, two = udp(), udp()
    receiving = loop.create_task(loop.sock_recvfrom(two, 100))
    await next_turns(2)
    assert await loop.sock_sendto(one, b"datagram", two.getsockname()) == 8
    assert await receiving == (b"datagram", one.getsockname())
    buffer = bytearray(20)
    receiving_into = loop.create_task(loop.sock_recvfrom_into(two, buffer))
    await next_turns(2)
    await loop.sock_sendto(one, b"second", two.getsockname())
    assert await receiving_into == (6, one.getsockname())
    assert buffer.startswith(b"second")
    await loop.sock_sendto(one, b"third datagram", two.getsockname())
    assert await loop.sock_recvfrom_into(two, buffer, 5) == (5, one.getsockname())
    assert buffer.startswith(b"thirdd")
    await loop.sock_sendto(one, b"", two.getsockname())
    assert await loop.sock_recvfrom(two, 10) == (b"", one.getsockname())
    one.close()
    two.close()


async def test_tls_sockets_are_refused(loop: Loop) -> None:
    import ssl

    listener = socket.create_server(("127.0.0.1", 0))
    plain = socket.create_connection(listener.getsockname())
    context = ssl.create_default_context()
    context.check_hostname = False
    wrapped = context.wrap_socket(plain, do_handshake_on_connect=False)
    for call in (
        loop.sock_recv(wrapped, 1),
        loop.sock_recv_into(wrapped, bytearray(1)),
        loop.sock_sendall(wrapped, b"x"),
        loop.sock_connect(wrapped, listener.getsockname()),
        loop.sock_accept(wrapped),
    ):
        with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
            await call
    wrapped.close()
    listener.close()


async def test_blocking_sockets_are_refused_in_debug_mode(loop: Loop, pair: Pair) -> None:
    ours, _ = pair
    ours.setblocking(True)
    loop.set_debug(True)
    for call in (
        loop.sock_recv(ours, 1),
        loop.sock_recv_into(ours, bytearray(1)),
        loop.sock_sendall(ours, b"x"),
        loop.sock_connect(ours, "x"),
        loop.sock_accept(ours),
        loop.sock_recvfrom(ours, 1),
        loop.sock_recvfrom_into(ours, bytearray(1)),
        loop.sock_sendto(ours, b"x", "x"),
    ):
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await call


async def test_errors_of_the_socket_come_out(loop: Loop, pair: Pair) -> None:
    ours, peer = pair
    peer.close()
    with pytest.raises(BrokenPipeError):
        await loop.sock_sendall(ours, b"x")
    ours.close()
    with pytest.raises((OSError, ValueError)):
        await loop.sock_recv(ours, 1)


async def test_a_reset_connection(loop: Loop) -> None:
    import struct

    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    served, _ = listener.accept()
    served.setblocking(False)
    receiving = loop.create_task(loop.sock_recv(served, 10))
    await next_turns(2)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with pytest.raises(ConnectionResetError):
        await receiving
    served.close()
    listener.close()
