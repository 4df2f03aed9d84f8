"""Many TLS connections with every kind of ending: does the process grow?

Each opens over a socket pair, both ends on the loop under test, and ends in one of the ways of
`ENDINGS`. The first stretch of connections warms up allocators and caches. Then the resident size
is sampled; the slope is that of the line through the lowest sample of the first and of the last
quarter. The collector is off in the second half, so what only it could free shows too.

A leak shows in every stretch. But some last pages come late (on asyncio's loop too), and twenty
kilobytes are a byte a connection: so a stretch that is too steep is followed by another, and the
flattest of a few counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
from array import array
from typing import Any

from holdings import Holdings, resident_bytes
from loops import Factory
from recorder import Recorder
from tls_peer import client_context, server_context, socket_pair

SAMPLES = 80
STRETCHES_MAX = 4
# A short run has no more to say than that no large object leaks.
BYTES_EACH_MAX = 1 if os.environ.get("OXLOOP_FULL") == "1" else 256

SERVER, CLIENT = server_context(), client_context()
DISTRUSTFUL = ssl.create_default_context()


class Quiet(Recorder):
    """A protocol that forgets its transport in the end, as a careful program does."""

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        del self.transport


async def pair() -> tuple[Quiet, Quiet]:
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    serving = loop.connect_accepted_socket(Quiet, ours, ssl=SERVER)
    connecting = loop.create_connection(Quiet, sock=theirs, ssl=CLIENT, server_hostname="localhost")
    (_, server), (_, client) = await asyncio.gather(serving, connecting)
    client.transport.write(b"x" * 3000)
    await server.wait_received(3000)
    server.transport.write(b"y" * 3000)
    await client.wait_received(3000)
    return server, client


async def client_closes() -> None:
    server, client = await pair()
    client.transport.close()
    await asyncio.gather(server.lost, client.lost)


async def server_closes() -> None:
    server, client = await pair()
    server.transport.close()
    await asyncio.gather(server.lost, client.lost)


async def both_close() -> None:
    server, client = await pair()
    server.transport.close()
    client.transport.close()
    await asyncio.gather(server.lost, client.lost)


async def client_aborts() -> None:
    server, client = await pair()
    client.transport.abort()
    await asyncio.gather(server.lost, client.lost)


async def server_aborts_with_data_unsent() -> None:
    server, client = await pair()
    client.transport.pause_reading()
    server.transport.write(bytes(1 << 20))
    server.transport.write(bytes(1 << 20))
    server.transport.abort()
    await server.lost
    client.transport.abort()
    await client.lost


async def certificate_refused() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    serving = loop.connect_accepted_socket(Quiet, ours, ssl=SERVER)
    connecting = loop.create_connection(
        Quiet, sock=theirs, ssl=DISTRUSTFUL, server_hostname="localhost"
    )
    done = await asyncio.gather(serving, connecting, return_exceptions=True)
    assert isinstance(done[1], ssl.SSLError)


async def garbage() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    with theirs:
        theirs.send(b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ssl.SSLError):
            await loop.connect_accepted_socket(Quiet, ours, ssl=SERVER)


async def vanishes_in_the_handshake() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    theirs.close()
    with contextlib.suppress(OSError):
        await loop.create_connection(Quiet, sock=ours, ssl=CLIENT, server_hostname="localhost")


async def times_out() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    with theirs, contextlib.suppress(ConnectionAbortedError):
        await loop.connect_accepted_socket(Quiet, ours, ssl=SERVER, ssl_handshake_timeout=0.0001)


async def cancelled_in_the_handshake() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    with theirs:
        connecting = loop.create_task(
            loop.create_connection(Quiet, sock=ours, ssl=CLIENT, server_hostname="localhost")
        )
        await loop.sock_recv(theirs, 1)
        connecting.cancel()
        await asyncio.wait([connecting])


async def upgraded() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket_pair()
    transport, server = await loop.connect_accepted_socket(Quiet, ours)
    other, client = await loop.create_connection(Quiet, sock=theirs)
    transport, other = await asyncio.gather(
        loop.start_tls(transport, server, SERVER, server_side=True),
        loop.start_tls(other, client, CLIENT, server_hostname="localhost"),
    )
    other.write(b"hello")
    await server.wait_received(5)
    other.close()
    await asyncio.gather(server.lost, client.lost)


ENDINGS = (
    client_closes,
    server_closes,
    both_close,
    client_aborts,
    server_aborts_with_data_unsent,
    certificate_refused,
    garbage,
    vanishes_in_the_handshake,
    times_out,
    cancelled_in_the_handshake,
    upgraded,
)


async def open_and_end(numbers: range) -> None:
    for number in numbers:
        await ENDINGS[number % len(ENDINGS)]()


async def slope_of(connections: int) -> float:
    """Open and end so many; the slope in bytes per connection."""
    every = max(1, connections // SAMPLES)
    # Made before: a list that grows by a tuple for each sample is some pages in the end.
    resident = array("q", bytes(8 * SAMPLES))
    for place in range(SAMPLES):
        if place == SAMPLES // 2:
            gc.collect()
            gc.disable()
        await open_and_end(range(place * every, (place + 1) * every))
        resident[place] = resident_bytes()
    gc.enable()
    quarter = SAMPLES // 4
    first = min(range(quarter), key=lambda place: resident[place])
    last = min(range(SAMPLES - quarter, SAMPLES), key=lambda place: resident[place])
    return (resident[last] - resident[first]) / ((last - first) * every)


async def measure(connections: int) -> dict[str, Any]:
    """The slope after a warm-up, and what is left over."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    await open_and_end(range(len(ENDINGS)))
    gc.collect()
    before = Holdings.now()
    await open_and_end(range(connections))
    slopes: list[float] = []
    while not slopes or slopes[-1] >= BYTES_EACH_MAX and len(slopes) < STRETCHES_MAX:
        slopes.append(round(await slope_of(connections), 3))
    await asyncio.sleep(0)
    now = Holdings.now()
    assert now == before
    return {
        "connections": connections,
        "bytes_each": min(slopes),
        "stretches": len(slopes),
        **now._asdict(),
    }


def tls_memory(loop_factory: Factory, count: int) -> dict[str, Any]:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(measure(count))
