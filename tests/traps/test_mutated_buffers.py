"""A buffer that is changed after `write()`: the peer gets what was written.

asyncio itself keeps a view of the caller's buffer from Python 3.12 on and sends what is in it
later; there only the length is checked. Every other loop must send the bytes of the moment.
"""

import asyncio
import sys
from typing import Any

import pytest
from recorder import read_to_end, with_socket

Loop = asyncio.AbstractEventLoop
SIZE = 8 << 20


@pytest.mark.parametrize("call", ["write", "writelines", "write while buffered"])
@pytest.mark.parametrize("view", [False, True])
async def test_mutated_after_write(loop: Loop, loop_name: str, call: str, view: bool) -> None:
    transport, protocol, peer = await with_socket()
    data = bytearray(b"a" * SIZE)
    written: Any = memoryview(data) if view else data
    expected = SIZE
    if call == "write while buffered":
        transport.write(b"a" * SIZE)
        expected += SIZE
    if call == "writelines":
        transport.writelines([written])
    else:
        transport.write(written)
    assert transport.get_write_buffer_size() > 0
    data[:] = b"b" * SIZE
    transport.close()
    received = await read_to_end(peer)
    assert len(received) == expected
    if loop_name != "asyncio" or (sys.version_info < (3, 12) and call != "writelines"):
        assert received.count(b"a") == expected
    await protocol.lost
    peer.close()


async def test_resized_after_write(loop: Loop, loop_name: str) -> None:
    """A bytearray may be resized again at once, unless asyncio holds a view of it."""
    transport, protocol, peer = await with_socket()
    data = bytearray(b"a" * SIZE)
    transport.write(data)
    try:
        data.clear()
    except BufferError:
        assert loop_name == "asyncio"
    transport.close()
    assert await read_to_end(peer) == b"a" * SIZE
    await protocol.lost
    peer.close()


async def test_sock_sendall_of_a_buffer_that_is_resized(loop: Loop) -> None:
    """The call locks the buffer or copies it; in no case may it read freed memory."""
    import socket

    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    data = bytearray(b"a" * SIZE)
    sending = loop.create_task(loop.sock_sendall(ours, data))
    await asyncio.sleep(0)
    try:
        data.clear()
    except BufferError:
        pass
    received = bytearray()
    while len(received) < SIZE:
        received += await loop.sock_recv(peer, 1 << 20)
    await sending
    assert received == b"a" * SIZE
    ours.close()
    peer.close()
