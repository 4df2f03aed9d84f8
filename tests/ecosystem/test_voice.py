"""Voice over UDP as Discord's libraries do it: discovery, a player thread, a receiver.

The client asks the server for its own address and waits for the answer by `sock_recv` on a socket
that is not connected; then a thread of its own sends a frame at fixed times, past the loop, while
the loop receives the others' voices and sends heartbeats. The server is a datagram endpoint.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

# So few that all of both speakers fit the receive buffer of the server's socket (208 KiB, of which
# the kernel counts 768 bytes for each), should the loop not get its turn: loopback loses the rest.
FRAMES = 100
FRAME_INTERVAL_S = 0.002
DISCOVERY_BYTES = 74


class Server(asyncio.DatagramProtocol):
    """Answers discoveries, echoes frames to all other speakers, counts heartbeats."""

    def __init__(self) -> None:
        self.speakers: dict[int, tuple[str, int]] = {}
        self.heartbeats = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) == DISCOVERY_BYTES:
            (source,) = struct.unpack_from(">I", data, 4)
            self.speakers[source] = addr
            answer = struct.pack(">HHI64sH", 2, 70, source, addr[0].encode(), addr[1])
            self.transport.sendto(answer, addr)
        elif data.startswith(b"heartbeat"):
            self.heartbeats += 1
            self.transport.sendto(data, addr)
        else:
            (source,) = struct.unpack_from(">I", data, 8)
            for other, address in self.speakers.items():
                if other != source:
                    self.transport.sendto(data, address)


class Speaker:
    """One client: an unconnected, non-blocking socket shared by the loop and the player."""

    def __init__(self, source: int, server: tuple[str, int]) -> None:
        self.source, self.server = source, server
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.heard: list[int] = []
        self.heartbeats = 0

    async def discover(self) -> tuple[str, int]:
        """Our own address, as the server sees it."""
        loop = asyncio.get_running_loop()
        question = bytearray(DISCOVERY_BYTES)
        struct.pack_into(">HHI", question, 0, 1, 70, self.source)
        self.sock.sendto(question, self.server)
        answer = await loop.sock_recv(self.sock, DISCOVERY_BYTES)
        _, _, source, host, port = struct.unpack(">HHI64sH", answer)
        assert source == self.source
        return host.rstrip(b"\0").decode(), port

    def play(self, tell: Callable[[], object]) -> None:
        """The player thread: a frame at each point of time."""
        begun = time.perf_counter()
        for number in range(FRAMES):
            frame = struct.pack(">BBHII", 0x80, 0x78, number, number * 960, self.source)
            self.sock.sendto(frame + bytes(160), self.server)
            delay = begun + (number + 1) * FRAME_INTERVAL_S - time.perf_counter()
            time.sleep(max(0, delay))
        tell()

    async def listen(self) -> None:
        """Everything that the server sends, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            data, sender = await loop.sock_recvfrom(self.sock, 2048)
            assert sender == self.server
            if data.startswith(b"heartbeat"):
                self.heartbeats += 1
            else:
                self.heard.append(struct.unpack_from(">H", data, 2)[0])

    async def beat(self) -> None:
        """A heartbeat now and then, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.sock_sendto(self.sock, b"heartbeat", self.server)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("debug", [False, True])
def test_two_speakers(run: Callable[..., Any], debug: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
        address = transport.get_extra_info("sockname")
        speakers = [Speaker(source, address) for source in (1, 2)]
        for speaker in speakers:
            assert await speaker.discover() == ("127.0.0.1", speaker.sock.getsockname()[1])
        listening = [loop.create_task(speaker.listen()) for speaker in speakers]
        beating = [loop.create_task(speaker.beat()) for speaker in speakers]
        played = []
        for speaker in speakers:
            done = asyncio.Event()
            tell = partial(loop.call_soon_threadsafe, done.set)
            threading.Thread(target=speaker.play, args=(tell,), daemon=True).start()
            played.append(done)
        for done in played:
            await done.wait()
        # What is under way comes.
        async with asyncio.timeout(30):
            while any(len(each.heard) < FRAMES or each.heartbeats <= 5 for each in speakers):
                await asyncio.sleep(0.001)
        for task in (*listening, *beating):
            task.cancel()
        await asyncio.wait([*listening, *beating])
        for speaker in speakers:
            assert speaker.heard == list(range(FRAMES))
            speaker.sock.close()
        transport.close()

    run(main(), debug=debug)
