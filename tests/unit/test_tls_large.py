"""Large messages over TLS: many records at a time, which oxloop decrypts straight into one object.

As in test_tls.py every test runs with contexts as everybody has them, and with a class of
connections of one's own.
"""

import asyncio
import random
import ssl
from typing import Any

import pytest
from recorder import Recorder, numbered
from tls_peer import close_both, tls_pair, with_peer

Loop = asyncio.AbstractEventLoop

RECORD = 16 * 1024


pytestmark = pytest.mark.usefixtures("connection_class")


async def test_sizes_in_turn_both_ways(loop: Loop) -> None:
    chance = random.Random(11)
    sizes = [chance.choice((1, 700, RECORD - 1, RECORD, 50_000, 300_000)) for _ in range(40)]
    message = numbered(max(sizes))
    served, connected = await tls_pair()
    sent = bytearray()
    for size in sizes:
        data = message[-size:]
        sent += data
        connected.transport.write(data)
        served.transport.write(data)
        await served.wait_received(len(sent))
        await connected.wait_received(len(sent))
    assert served.received == connected.received == sent
    await close_both(connected, served)


@pytest.mark.parametrize("cut", [1, 5, RECORD, 20_000, RECORD * 3 + 100, -1])
async def test_records_that_are_cut(loop: Loop, cut: int) -> None:
    _, protocol, peer = await with_peer()
    message = numbered(5 * RECORD)
    peer.tls.write(message)
    encrypted = peer.outgoing.read()
    await loop.sock_sendall(peer.sock, encrypted[:cut])
    # Whole records come before the rest does.
    await protocol.wait_received(max(0, (cut % len(encrypted)) // (RECORD + 100)) * RECORD)
    await loop.sock_sendall(peer.sock, encrypted[cut:])
    await protocol.wait_received(len(message))
    assert protocol.received == message
    protocol.transport.abort()
    await protocol.lost
    peer.close()


async def test_the_end_in_one_segment_with_large_records(loop: Loop) -> None:
    _, protocol, peer = await with_peer()
    message = numbered(3 * RECORD + 17)
    peer.tls.write(message)
    await loop.sock_sendall(peer.sock, peer.outgoing.read() + peer.close_notify())
    assert await protocol.lost is None
    assert protocol.received == message
    peer.close()


async def test_a_damaged_record_behind_large_ones(loop: Loop, loop_name: str) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio drops what was decrypted before, if both came at once")
    _, protocol, peer = await with_peer()
    message = numbered(3 * RECORD)
    peer.tls.write(message)
    good = peer.outgoing.read()
    peer.tls.write(b"damaged")
    damaged = bytearray(peer.outgoing.read())
    damaged[-1] ^= 1
    await loop.sock_sendall(peer.sock, good + damaged)
    assert isinstance(await protocol.lost, ssl.SSLError)
    assert protocol.received == message
    peer.close()


async def test_pausing_between_large_pieces(loop: Loop) -> None:
    class Pausing(Recorder):
        is_paused = False

        def data_received(self, data: bytes) -> None:
            assert not self.is_paused
            super().data_received(data)
            self.is_paused = True
            self.transport.pause_reading()
            loop.call_soon(self.resume)

        def resume(self) -> None:
            self.is_paused = False
            self.transport.resume_reading()

    _, protocol, peer = await with_peer(Pausing)
    message = numbered(1_000_000)
    sending = asyncio.ensure_future(peer.send(message))
    await protocol.wait_received(len(message))
    await sending
    assert protocol.received == message
    protocol.transport.abort()
    await protocol.lost
    peer.close()


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_nothing_comes_after_a_close(loop: Loop, method: str) -> None:
    class Closing(Recorder):
        pieces = 0

        def data_received(self, data: bytes) -> None:
            self.pieces += 1
            super().data_received(data)
            getattr(self.transport, method)()

    _, protocol, peer = await with_peer(Closing)
    message: Any = numbered(10 * RECORD)
    await peer.send(message)
    # So that a close does not wait for the peer's close_notify.
    peer.close()
    await protocol.lost
    assert protocol.pieces == 1
    assert message.startswith(protocol.received)
