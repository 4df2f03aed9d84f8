"""Descriptors that were closed with their reader still registered, and errors of registering.

The loop cannot see such a close. When the number comes back as another file, whatever takes it
also takes the place of the stale callback, which must then be freed.
"""

import asyncio
import errno
import gc
import os
import socket
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from recorder import Recorder, next_turns

Loop = asyncio.AbstractEventLoop


class Callback:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


async def as_transport(loop: Loop, sock: socket.socket) -> None:
    transport, protocol = await loop.create_connection(Recorder, sock=sock)
    transport.abort()
    await protocol.lost


async def as_reader(loop: Loop, sock: socket.socket) -> None:
    loop.add_reader(sock, print)
    assert loop.remove_reader(sock) is True


async def as_sock_recv(loop: Loop, sock: socket.socket) -> None:
    task = loop.create_task(loop.sock_recv(sock, 1))
    await next_turns(1)
    task.cancel()
    await asyncio.wait([task])


OWNERS = [as_transport, as_reader, as_sock_recv]


@pytest.mark.parametrize("new_owner", OWNERS)
async def test_a_stale_reader_is_freed_when_its_number_is_reused(
    loop: Loop, new_owner: Callable[[Loop, socket.socket], Awaitable[None]]
) -> None:
    references: list[weakref.ref[Callback]] = []
    for _ in range(20):
        stale, stale_peer = socket.socketpair()
        stale.setblocking(False)
        callback = Callback()
        references.append(weakref.ref(callback))
        loop.add_reader(stale, callback)
        number = stale.fileno()
        stale.close()
        stale_peer.close()
        sock, peer = socket.socketpair()
        sock.setblocking(False)
        assert sock.fileno() == number
        await new_owner(loop, sock)
        assert callback.calls == 0
        del callback
        sock.close()
        peer.close()
        await next_turns()
    gc.collect()
    assert sum(reference() is not None for reference in references) == 0


async def test_errors_carry_errno(loop: Loop, tmp_path: Any) -> None:
    regular = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    closed = os.open(tmp_path, os.O_RDONLY)
    os.close(closed)
    try:
        for number, expected in ((closed, errno.EBADF), (regular, errno.EPERM)):
            for register in (loop.add_reader, loop.add_writer):
                with pytest.raises(OSError) as caught:
                    register(number, print)
                assert caught.value.errno == expected
                assert caught.value.strerror == os.strerror(expected)
                assert type(caught.value) is type(OSError(expected, ""))
    finally:
        os.close(regular)
