"""What a program does to its own other end is there two iterations later, while others are ready.

Programs, and above all their tests, count on it: asyncio looks for I/O in every iteration.
"""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

from recorder import Recorder, next_turns, with_socket

Loop = asyncio.AbstractEventLoop


async def connected() -> tuple[asyncio.Transport, Recorder]:
    """A transport, and the protocol at its other end, on the same loop."""
    loop = asyncio.get_running_loop()
    transport, _, peer = await with_socket()
    _, other = await loop.create_connection(Recorder, sock=peer)
    return transport, other


async def test_bytes_written(loop: Loop) -> None:
    transport, other = await connected()
    for number in range(20):
        transport.write(b"x")
        await next_turns(2)
        assert len(other.received) == number + 1
    transport.writelines([b"y", b"z"])
    await next_turns(2)
    assert other.received.endswith(b"yz")
    transport.abort()
    await other.lost


async def test_the_end(loop: Loop) -> None:
    transport, other = await connected()
    await next_turns(3)
    transport.write_eof()
    await next_turns(2)
    assert other.eof.done()
    await other.lost


async def test_bytes_sent_by_the_loops_socket_calls(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    _, other = await loop.create_connection(Recorder, sock=peer)
    for number in range(20):
        await loop.sock_sendall(ours, b"x")
        await next_turns(2)
        assert len(other.received) == number + 1
    ours.close()
    await other.lost


async def test_datagrams(loop: Loop, tmp_path: Path) -> None:
    """Over Unix sockets, where what is sent is there at once."""
    received: list[bytes] = []

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _: Any) -> None:
            received.append(data)

    path: Any = str(tmp_path / "receiver")
    receiver, _ = await loop.create_datagram_endpoint(
        Receiver, local_addr=path, family=socket.AF_UNIX
    )
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=path, family=socket.AF_UNIX
    )
    await next_turns(3)
    for number in range(20):
        sender.sendto(b"x")
        await next_turns(2)
        assert len(received) == number + 1
    for transport in (receiver, sender):
        transport.close()
    await next_turns(2)


async def test_what_waits_when_a_source_is_watched(loop: Loop) -> None:
    """A reader, and a pipe whose data comes before the end of one that was closed meanwhile."""
    seen: list[str] = []
    ours, peer = socket.socketpair()
    await next_turns(3)
    peer.send(b"x")
    loop.add_reader(ours, seen.append, "reader")
    await next_turns(2)
    assert seen[:1] == ["reader"]
    loop.remove_reader(ours)
    ours.close()
    peer.close()

    class Reader(asyncio.Protocol):
        def __init__(self, name: str) -> None:
            self.name = name

        def data_received(self, data: bytes) -> None:
            seen.append(self.name)

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(f"{self.name} lost")

    ends = [os.pipe(), os.pipe()]
    for _, write_end in ends:
        os.write(write_end, b"x")
    files = [os.fdopen(read_end, "rb", 0) for read_end, _ in ends]
    old, _ = await loop.connect_read_pipe(lambda: Reader("old"), files[0])
    await next_turns(5)
    del seen[:]
    new, _ = await loop.connect_read_pipe(lambda: Reader("new"), files[1])
    old.close()
    await next_turns(5)
    assert seen == ["new", "old lost"]
    new.close()
    await next_turns(5)
    for _, write_end in ends:
        os.close(write_end)
