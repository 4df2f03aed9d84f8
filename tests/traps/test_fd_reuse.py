"""A descriptor number that is closed and given out again within one iteration.

The events of the old owner may still be on their way: they must not reach the new one, and
closing the old must not close or deafen the new.
"""

import asyncio
import socket
from typing import Any

from recorder import Recorder, next_turns, with_socket

Loop = asyncio.AbstractEventLoop


async def test_readers_in_one_iteration(loop: Loop) -> None:
    """Of two ready descriptors the first callback replaces the second under its number."""
    calls: list[str] = []
    first, first_peer = socket.socketpair()
    second, second_peer = socket.socketpair()
    replaced: list[socket.socket] = []

    def replace(name: str, other: socket.socket) -> None:
        calls.append(name)
        for sock in (first, second):
            loop.remove_reader(sock)
        number = other.fileno()
        other.close()
        new, new_peer = socket.socketpair()
        replaced.extend((new, new_peer))
        assert number in (new.fileno(), new_peer.fileno())
        for sock in (new, new_peer):
            loop.add_reader(sock, calls.append, "an event of the old owner")

    loop.add_reader(first, replace, "first", second)
    loop.add_reader(second, replace, "second", first)
    first_peer.send(b"x")
    second_peer.send(b"x")
    while not calls:
        await asyncio.sleep(0)
    await next_turns(5)
    assert calls in (["first"], ["second"])
    for sock in replaced:
        loop.remove_reader(sock)
    for sock in (first, second, first_peer, second_peer, *replaced):
        sock.close()


async def test_transports_in_one_iteration(loop: Loop) -> None:
    """Each connection closes itself at its first byte, while new ones take over the numbers."""
    received: dict[int, bytes] = {}
    made: list[Any] = []

    class Once(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.abort()
            ours, peer = socket.socketpair()
            self.later = loop.create_task(self.reopen(ours, peer))
            made.append(self)

        async def reopen(self, ours: socket.socket, peer: socket.socket) -> None:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            number = len(received)
            received[number] = b""
            word = b"only for %d" % number
            await next_turns(3)
            peer.setblocking(False)
            await loop.sock_sendall(peer, word)
            received[number] = await protocol.wait_received(len(word))
            assert received[number] == word
            transport.close()
            await protocol.lost
            peer.close()

    opened = [await with_socket(Once) for _ in range(20)]
    for _, _, peer in opened:
        peer.send(b"x")
    for _, protocol, _ in opened:
        await protocol.lost
    await asyncio.gather(*(protocol.later for _, protocol, _ in opened))
    assert len(made) == len(received) == 20
    for _, protocol, peer in opened:
        assert protocol.events == ["made", "data", "lost"]
        peer.close()


async def test_a_cancelled_connect_frees_its_number(loop: Loop) -> None:
    """What a cancelled connection leaves must not answer for the next one with its number."""
    listening = socket.create_server(("127.0.0.1", 0))
    for _ in range(20):
        task = loop.create_task(loop.create_connection(Recorder, *listening.getsockname()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            transport, protocol = task.result()
            transport.abort()
            await protocol.lost
        transport, protocol, peer = await with_socket()
        peer.send(b"mine")
        assert await protocol.wait_received(4) == b"mine"
        transport.close()
        await protocol.lost
        peer.close()
    listening.close()


async def test_a_cancelled_sock_connect_leaves_the_socket_to_its_owner(loop: Loop) -> None:
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(silent.getsockname())
    sock = socket.socket()
    sock.setblocking(False)
    task = loop.create_task(loop.sock_connect(sock, silent.getsockname()))
    await next_turns(2)
    task.cancel()
    await asyncio.wait([task])
    number = sock.fileno()
    assert number > 0
    assert loop.remove_writer(number) is False
    sock.close()
    transport, protocol, peer = await with_socket()
    peer.send(b"mine")
    assert await protocol.wait_received(4) == b"mine"
    transport.close()
    await protocol.lost
    for each in (peer, silent, *fillers):
        each.close()
