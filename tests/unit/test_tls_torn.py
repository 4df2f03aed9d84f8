"""Peers that tear TLS apart: cut anywhere, gone, silent, or flooding, at every stage.

No stage may hang beyond its timeout, spin, or leave anything behind: after every test there are as
many descriptors as before it, and no task and no timer (`nothing_is_left_over`). Time is the loop's
own `call_later`; the timeouts are short, and nothing here waits for one that is not tested.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import Recorder, next_turns
from tls_peer import Peer, client_context, server_context, socket_pair

Loop = asyncio.AbstractEventLoop

FLOOD = bytes(range(256)) * 256


CONTEXT = server_context()


def open_descriptors() -> set[str]:
    listed = os.listdir("/proc/self/fd")
    return {number for number in listed if os.path.exists(f"/proc/self/fd/{number}")}


def pending_timers(loop: Any) -> list[asyncio.TimerHandle]:
    return [timer for timer in loop._scheduled if not timer.cancelled()]


@pytest.fixture(autouse=True)
def nothing_is_left_over(loop: Loop) -> Iterator[None]:
    loop.run_until_complete(next_turns(1))
    before = open_descriptors()
    yield
    loop.run_until_complete(next_turns(3))
    assert not asyncio.all_tasks(loop)
    assert not pending_timers(loop)
    assert open_descriptors() == before


def serving(sock: Any, **options: Any) -> Any:
    """The task that takes `sock` as a server's side of TLS."""
    loop = asyncio.get_running_loop()
    return loop.create_task(loop.connect_accepted_socket(Recorder, sock, ssl=CONTEXT, **options))


async def with_server(**options: Any) -> tuple[Any, Any, Peer]:
    """Our server's transport, its protocol, and the client at the other end."""
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    (transport, protocol), _ = await asyncio.gather(serving(ours, **options), peer.handshake())
    return transport, protocol, peer


async def with_client(**options: Any) -> tuple[Any, Any, Peer]:
    """Our client's transport, its protocol, and the server at the other end."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    peer = Peer(theirs, server_side=True)
    connecting = loop.create_connection(
        Recorder, sock=ours, ssl=client_context(), server_hostname="localhost", **options
    )
    (transport, protocol), _ = await asyncio.gather(connecting, peer.handshake())
    return transport, protocol, peer


async def test_a_hello_cut_at_every_byte(loop: Loop) -> None:
    size = len(Peer(socket_pair()[0]).hello())
    for cut in range(1, size):
        ours, theirs = socket_pair()
        peer = Peer(theirs)
        hello = peer.hello()
        server = serving(ours)
        await loop.sock_sendall(theirs, hello[:cut])
        await next_turns(2)
        assert not server.done()
        await loop.sock_sendall(theirs, hello[cut:])
        await peer.handshake()
        transport, protocol = await server
        transport.abort()
        await protocol.lost
        peer.close()


async def test_a_client_that_leaves_after_every_byte_of_its_hello(loop: Loop) -> None:
    size = len(Peer(socket_pair()[0]).hello())
    for cut in range(size + 1):
        ours, theirs = socket_pair()
        peer = Peer(theirs)
        server = serving(ours)
        await loop.sock_sendall(theirs, peer.hello()[:cut])
        peer.close()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await server


async def serve_handshake(peer: Peer, size: int) -> bool:
    """Serve a handshake and hang up after `size` bytes; False if the client needs no more."""
    loop = asyncio.get_running_loop()
    done = False
    while not done:
        try:
            peer.tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        flight = peer.outgoing.read()
        if done and peer.tls.version() == "TLSv1.3":
            break  # only tickets are left
        await loop.sock_sendall(peer.sock, flight[:size])
        if len(flight) > size:
            peer.close()
            return True
        size -= len(flight)
        if not done:
            await peer.receive()
    peer.close()
    return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_vanishes_after_every_byte_of_its_flight(
    loop: Loop, version: ssl.TLSVersion
) -> None:
    context = client_context()
    context.maximum_version = version
    before = open_descriptors()
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async def connect(sock: socket.socket) -> Any:
        return await loop.create_connection(
            factory, sock=sock, ssl=context, server_hostname="localhost"
        )

    for cut in range(10_000):
        ours, theirs = socket_pair()
        connecting = loop.create_task(connect(ours))
        if not await serve_handshake(Peer(theirs, server_side=True), cut):
            transport, _ = await connecting
            transport.abort()
            await made[-1].lost
            break
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await connecting
        assert made[-1].events == []
        if cut % 100 == 0:
            await next_turns(3)
            assert open_descriptors() == before
            # The test's own task, and its time limit.
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert len(pending_timers(loop)) == 1
    assert cut > 500, "a flight is longer"


async def test_every_record_in_pieces_of_one_byte(loop: Loop) -> None:
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    server = serving(ours)
    outgoing = [peer.hello()]
    while True:
        for byte in b"".join(outgoing):
            await loop.sock_sendall(theirs, bytes([byte]))
            await asyncio.sleep(0)
        try:
            peer.tls.do_handshake()
        except ssl.SSLWantReadError:
            await peer.receive()
            outgoing = [peer.outgoing.read()]
        else:
            break
    peer.tls.write(b"hello")
    for byte in peer.outgoing.read():
        await loop.sock_sendall(theirs, bytes([byte]))
        await asyncio.sleep(0)
    _, protocol = await server
    assert await protocol.wait_received(5) == b"hello"
    for byte in peer.close_notify():
        await loop.sock_sendall(theirs, bytes([byte]))
        await asyncio.sleep(0)
    assert await protocol.lost is None
    assert protocol.events == ["made", "data", "eof", "lost"]
    peer.close()


@pytest.mark.parametrize("first", [0, 1, 5, 100])
async def test_a_silent_client_is_given_up(loop: Loop, first: int) -> None:
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    server = serving(ours, ssl_handshake_timeout=0.05)
    await loop.sock_sendall(theirs, peer.hello()[:first])
    with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 0.05"):
        await server
    assert not await peer.receive()
    peer.close()


async def test_a_silent_server_is_given_up(loop: Loop) -> None:
    ours, theirs = socket_pair()
    with pytest.raises(ConnectionAbortedError, match="taking longer than 0.05 seconds"):
        await loop.create_connection(
            Recorder,
            sock=ours,
            ssl=client_context(),
            server_hostname="localhost",
            ssl_handshake_timeout=0.05,
        )
    theirs.close()


@pytest.mark.parametrize("garbage", [FLOOD, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff"])
async def test_garbage_instead_of_a_handshake(loop: Loop, garbage: bytes) -> None:
    ours, theirs = socket_pair()
    server = serving(ours, ssl_handshake_timeout=0.2)

    async def flood() -> None:
        while True:
            await loop.sock_sendall(theirs, garbage)

    flooding = loop.create_task(flood())
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await server
    with pytest.raises(ConnectionError):
        await flooding
    theirs.close()


@pytest.mark.parametrize("connect", [with_server, with_client])
async def test_a_peer_that_vanishes_without_close_notify(loop: Loop, connect: Any) -> None:
    """asyncio tells of an orderly end; so do we."""
    transport, protocol, peer = await connect()
    await peer.send(b"half a sente")
    await protocol.wait_received(12)
    peer.close()
    await protocol.lost
    assert protocol.events[-1].startswith("lost")
    assert transport.is_closing()


@pytest.mark.parametrize("connect", [with_server, with_client])
async def test_a_peer_that_vanishes_in_the_middle_of_a_record(loop: Loop, connect: Any) -> None:
    _, protocol, peer = await connect()
    peer.tls.write(b"x" * 10_000)
    await loop.sock_sendall(peer.sock, peer.outgoing.read()[:-1])
    peer.sock.shutdown(1)
    await protocol.lost
    assert not protocol.received
    peer.close()


@pytest.mark.parametrize("connect", [with_server, with_client])
async def test_close_is_prompt_while_the_peer_keeps_sending(loop: Loop, connect: Any) -> None:
    transport, protocol, peer = await connect(ssl_shutdown_timeout=20)

    async def flood() -> None:
        while True:
            await peer.send(FLOOD)

    flooding = loop.create_task(flood())
    await protocol.wait_received(len(FLOOD))
    started = loop.time()
    transport.close()
    received = len(protocol.received)
    await protocol.lost
    assert loop.time() - started < 10
    assert len(protocol.received) == received
    with pytest.raises(ConnectionError):
        await flooding
    peer.close()


@pytest.mark.parametrize("connect", [with_server, with_client])
async def test_a_peer_that_floods_and_falls_silent_while_we_close(loop: Loop, connect: Any) -> None:
    """What is full stays full: nobody reads it, and nothing runs until the time is over."""
    transport, protocol, peer = await connect(ssl_shutdown_timeout=0.3)
    transport.pause_reading()

    async def flood() -> None:
        while True:
            await peer.send(FLOOD)

    flooding = loop.create_task(flood())
    while transport.get_read_buffer_size() < 262_144:
        await asyncio.sleep(0)
    await next_turns(20)
    assert not flooding.done()
    flooding.cancel()
    await asyncio.wait([flooding])
    started, cpu = loop.time(), time.process_time()
    transport.close()
    await protocol.lost
    took = loop.time() - started
    assert took < 10
    assert time.process_time() - cpu < 0.1 + took / 2
    assert not protocol.received
    peer.close()


@pytest.mark.parametrize("reads", [True, False], ids=["reads it", "resets"])
@pytest.mark.parametrize("connect", [with_server, with_client])
async def test_a_peer_that_vanishes_after_our_close_notify(
    loop: Loop, connect: Any, reads: bool
) -> None:
    transport, protocol, peer = await connect(ssl_shutdown_timeout=20)
    started = loop.time()
    transport.close()
    if reads:
        assert await peer.read(1) == b""
    else:
        await next_turns(3)
        assert not protocol.lost.done()
    peer.close()
    await protocol.lost
    assert protocol.events[-1].startswith("lost")
    assert loop.time() - started < 10
    assert transport.is_closing()


@pytest.mark.parametrize("connect", [with_server, with_client])
async def test_a_peer_that_never_answers_the_close_notify(loop: Loop, connect: Any) -> None:
    transport, protocol, peer = await connect(ssl_shutdown_timeout=0.05)
    transport.close()
    error = await protocol.lost
    assert isinstance(error, TimeoutError)
    assert str(error) == "SSL shutdown timed out"
    peer.close()


async def test_a_peer_that_never_reads(loop: Loop) -> None:
    transport, protocol, peer = await with_server(ssl_shutdown_timeout=0.05)
    transport.write(bytes(8 << 20))
    transport.close()
    assert isinstance(await protocol.lost, TimeoutError)
    peer.close()


async def test_waiting_costs_no_cpu_time(loop: Loop) -> None:
    """At each stage at which the peer may be silent, nothing runs."""
    ours, theirs = socket_pair()
    in_handshake = serving(ours, ssl_handshake_timeout=30)
    await loop.sock_sendall(theirs, Peer(theirs).hello()[:50])
    idle, _, idle_peer = await with_server()
    closing, closing_protocol, closing_peer = await with_server()
    closing.close()
    paused, paused_protocol, paused_peer = await with_server()
    paused.pause_reading()
    await paused_peer.send(b"waits")
    paused_peer.sock.shutdown(1)
    await asyncio.sleep(0.05)
    started = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - started < 0.1
    for peer in (idle_peer, closing_peer, paused_peer):
        peer.close()
    theirs.close()
    paused.resume_reading()
    await paused_protocol.lost
    assert paused_protocol.received == b"waits"
    await closing_protocol.lost
    idle.abort()
    await asyncio.wait([in_handshake])
    assert isinstance(in_handshake.exception(), ConnectionError)


only_ours = pytest.mark.parametrize("loop_name", ["oxloop"])


@only_ours
async def test_what_came_before_the_end_is_delivered_through_a_small_buffer(loop: Loop) -> None:
    """On oxloop only: asyncio delivers one buffer's worth and forgets the rest."""

    class Small(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(100)
            self.received = bytearray()
            self.lost = loop.create_future()

        def get_buffer(self, sizehint: int) -> memoryview:
            return memoryview(self.buffer)

        def buffer_updated(self, nbytes: int) -> None:
            self.received += self.buffer[:nbytes]

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(exc)

    ours, theirs = socket_pair()
    peer = Peer(theirs)
    connecting = loop.connect_accepted_socket(Small, ours, ssl=CONTEXT)
    (transport, protocol), _ = await asyncio.gather(connecting, peer.handshake())
    transport.pause_reading()
    data = bytes(range(256)) * 100
    await peer.send(data)
    peer.sock.shutdown(socket.SHUT_WR)
    await next_turns(5)
    transport.resume_reading()
    assert await protocol.lost is None
    assert protocol.received == data
    peer.close()


@only_ours
async def test_close_after_the_peer_hung_up_while_reading_was_paused(loop: Loop) -> None:
    """On oxloop only: on asyncio the connection stays until somebody reads."""
    transport, protocol, peer = await with_server()
    transport.pause_reading()
    await peer.send(b"never read")
    peer.close()
    await next_turns(5)
    transport.close()
    await protocol.lost
    assert not protocol.received


@pytest.mark.parametrize("stage", ["handshake", "data", "shutdown"])
async def test_cancelling_whoever_waits(loop: Loop, stage: str) -> None:
    ours, theirs = socket_pair()
    peer = Peer(theirs)
    server = serving(ours)
    if stage == "handshake":
        await loop.sock_sendall(theirs, peer.hello())
        await next_turns(3)
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
    else:
        await peer.handshake()
        transport, protocol = await server
        if stage == "shutdown":
            transport.close()
            await next_turns(2)
        transport.abort()
        assert await protocol.lost is None
    # The handshake's bytes may still be on their way; then comes the end, in one way or another.
    try:
        while await peer.receive():
            pass
    except ConnectionError:
        pass
    peer.close()
    await next_turns(3)
    assert ours.fileno() == -1
