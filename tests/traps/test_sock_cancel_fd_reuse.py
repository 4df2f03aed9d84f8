"""Two thousand cancelled ``sock_`` operations, each number taken over at once by a stranger.

The operation is cancelled and its socket closed in one turn of the loop, so that what the kernel
or the loop still holds for the number meets another file. No byte of the stranger's may be read,
none may be written to it, and an operation of the stranger's own must work.
"""

import asyncio
import random
import socket
from typing import Any

import loops
import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop

ROUNDS = 2000

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


def non_blocking_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    return pair


async def cancelled(task: asyncio.Task[Any]) -> bool:
    await asyncio.wait([task])
    return task.cancelled()


def check_untouched(stranger: socket.socket, peer: socket.socket, word: bytes) -> None:
    """All of `word`, which was sent by `peer`, is still there, and nothing went to `peer`."""
    assert stranger.recv(100) == word
    with pytest.raises(BlockingIOError):
        peer.recv(1)


async def test_recv_then_a_stranger_that_the_loop_does_not_know(loop: Loop) -> None:
    for turn in range(ROUNDS):
        sock, peer = non_blocking_pair()
        number = sock.fileno()
        task = loop.create_task(loop.sock_recv(sock, 100))
        await next_turns(1)
        if turn % 2:
            peer.send(b"for the cancelled one")
        task.cancel()
        sock.close()
        peer.close()
        stranger, stranger_peer = non_blocking_pair()
        assert stranger.fileno() == number
        stranger_peer.send(b"mine")
        await next_turns(2)
        assert await cancelled(task)
        check_untouched(stranger, stranger_peer, b"mine")
        stranger.close()
        stranger_peer.close()


async def test_recv_then_a_recv_of_the_new_owner(loop: Loop) -> None:
    for turn in range(ROUNDS):
        sock, peer = non_blocking_pair()
        number = sock.fileno()
        task = loop.create_task(loop.sock_recv(sock, 100))
        await next_turns(1)
        if turn % 2:
            peer.send(b"for the cancelled one")
        task.cancel()
        sock.close()
        peer.close()
        new, new_peer = non_blocking_pair()
        assert new.fileno() == number
        following = loop.create_task(loop.sock_recv(new, 100))
        await next_turns(1)
        word = b"%d" % turn
        new_peer.send(word)
        assert await following == word
        assert await cancelled(task)
        new.close()
        new_peer.close()


async def test_many_at_once(loop: Loop) -> None:
    """The data of all of them is there when all are cancelled and closed."""
    for _ in range(ROUNDS // 200):
        pairs = [non_blocking_pair() for _ in range(200)]
        tasks = [loop.create_task(loop.sock_recv(sock, 100)) for sock, _ in pairs]
        await next_turns(1)
        for (sock, peer), task in zip(pairs, tasks):
            peer.send(b"old")
            task.cancel()
        for sock, peer in pairs:
            sock.close()
            peer.close()
        pairs = [non_blocking_pair() for _ in range(200)]
        following = [loop.create_task(loop.sock_recv(sock, 100)) for sock, _ in pairs]
        await next_turns(1)
        for number, (_, peer) in enumerate(pairs):
            peer.send(b"%d" % number)
        assert await asyncio.gather(*following) == [b"%d" % number for number in range(200)]
        assert all(task.cancelled() for task in tasks)
        for sock, peer in pairs:
            sock.close()
            peer.close()


async def test_sendall(loop: Loop) -> None:
    """It waits for room; the stranger has room, and must not be given the rest."""
    rest = b"r" * (1 << 20)
    for _ in range(ROUNDS // 10):
        sock, peer = non_blocking_pair()
        number = sock.fileno()
        task = loop.create_task(loop.sock_sendall(sock, rest))
        await next_turns(1)
        assert not task.done()
        task.cancel()
        sock.close()
        peer.close()
        stranger, stranger_peer = non_blocking_pair()
        assert stranger.fileno() == number
        stranger_peer.send(b"mine")
        await next_turns(2)
        assert await cancelled(task)
        check_untouched(stranger, stranger_peer, b"mine")
        stranger.close()
        stranger_peer.close()


async def test_connect(loop: Loop) -> None:
    """A listener with a full queue does not answer; the stranger is connected and writable."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(silent.getsockname())
    pending = 0
    for _ in range(ROUNDS):
        sock = socket.socket()
        sock.setblocking(False)
        number = sock.fileno()
        task = loop.create_task(loop.sock_connect(sock, silent.getsockname()))
        await next_turns(1)
        pending += not task.done()
        task.cancel()
        sock.close()
        stranger, stranger_peer = non_blocking_pair()
        assert stranger.fileno() == number
        stranger_peer.send(b"mine")
        await next_turns(2)
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        check_untouched(stranger, stranger_peer, b"mine")
        assert loop.remove_writer(number) is False
        stranger.close()
        stranger_peer.close()
    assert pending > ROUNDS * 9 // 10
    for each in (silent, *fillers):
        each.close()


async def receive_own(loop: Loop, word: bytes, wait_turns: int) -> None:
    """Send a word to ourselves; what comes must be this word."""
    sock, peer = non_blocking_pair()
    receiving = asyncio.ensure_future(loop.sock_recv(sock, 100))
    try:
        await next_turns(wait_turns)
        await loop.sock_sendall(peer, word)
        assert await receiving == word
    finally:
        receiving.cancel()
        sock.close()
        peer.close()


async def accept_own(loop: Loop, word: bytes, wait_turns: int) -> None:
    """Connect to ourselves; who is accepted must be us."""
    listening, client = socket.create_server(("127.0.0.1", 0)), socket.socket()
    listening.setblocking(False)
    client.setblocking(False)
    accepting = asyncio.ensure_future(loop.sock_accept(listening))
    try:
        await next_turns(wait_turns)
        await loop.sock_connect(client, listening.getsockname())
        accepted, address = await accepting
        accepted.close()
        assert address == client.getsockname()
    finally:
        if not accepting.cancel() and not accepting.cancelled():
            accepting.result()[0].close()
        listening.close()
        client.close()


async def send_much(loop: Loop, word: bytes, wait_turns: int) -> None:
    """Send more than the kernel takes at once; what comes must be the same."""
    sock, peer = non_blocking_pair()
    data = word * 40_000
    sending = asyncio.ensure_future(loop.sock_sendall(sock, data))
    received = bytearray()
    try:
        while len(received) < len(data):
            await next_turns(wait_turns)
            received += await loop.sock_recv(peer, 1 << 18)
        assert received == data
        await sending
    finally:
        sending.cancel()
        sock.close()
        peer.close()


@only_ours
@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_random_cancels_of_everything(loop: Loop, seed: int) -> None:
    """Thirty operations at a time, many of them cancelled wherever they are.

    On oxloop only: asyncio unregisters a cancelled operation one turn later, by number, and so
    takes away the registration of the number's next owner.
    """
    chance = random.Random(seed)
    kinds = [receive_own] * 4 + [accept_own] * 2 + [send_much]
    live: list[asyncio.Task[None]] = []
    ended: list[asyncio.Task[None]] = []
    for number in range(ROUNDS):
        kind = chance.choice(kinds)
        work = kind(loop, b"word %08d" % number, chance.randrange(4))
        live.append(loop.create_task(work))
        if chance.random() < 0.4:
            live[chance.randrange(len(live))].cancel()
        if len(live) > 30:
            await next_turns(1)
            ended += [task for task in live if task.done()]
            live = [task for task in live if not task.done()]
    await asyncio.wait(live)
    ended += live
    outcomes = [task.cancelled() or task.exception() for task in ended]
    assert len(outcomes) == ROUNDS
    assert {outcome for outcome in outcomes if outcome is not None} <= {True}
    assert ROUNDS // 10 < outcomes.count(None) < ROUNDS
