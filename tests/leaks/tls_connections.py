"""Many TLS connections with every kind of ending: does the process grow?

    python tests/leaks/tls_connections.py [--connections N] [--loop NAME] [--slope-max BYTES]

Each round opens a connection over a socket pair, both ends on the loop under test, and ends it in
one of the ways of `ENDINGS`. The first third warms up allocators and caches. From then on the
resident size is sampled; the slope is that of the line through the lowest sample of the first and
of the last quarter, which noise can only raise. The collector is off in the second half, so
what only it could free shows too. Exit status 1 if the slope is above `--slope-max` bytes per
connection, or if descriptors or threads were left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loops import factory  # noqa: E402
from recorder import Recorder  # noqa: E402
from tls_peer import client_context, server_context, socket_pair  # noqa: E402

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
WARM_UP_SHARE = 1 / 3
SAMPLES = 80

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


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def measure(connections: int) -> dict[str, Any]:
    """Open and end them; the slope in bytes per connection, and what is left over."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    for ending in ENDINGS:
        await ending()
    gc.collect()
    descriptors_before, threads_before = descriptors(), threading.active_count()
    warm_up = int(connections * WARM_UP_SHARE)
    every = max(1, (connections - warm_up) // SAMPLES)
    samples: list[tuple[int, int]] = []
    for number in range(connections):
        if number == connections // 2:
            gc.collect()
            gc.disable()
        await ENDINGS[number % len(ENDINGS)]()
        if number >= warm_up and (number - warm_up) % every == 0:
            samples.append((number, resident_bytes()))
    gc.enable()
    quarter = max(1, len(samples) // 4)
    first = min(samples[:quarter], key=lambda sample: sample[1])
    last = min(samples[-quarter:], key=lambda sample: sample[1])
    await asyncio.sleep(0)
    return {
        "slope": (last[1] - first[1]) / max(1, last[0] - first[0]),
        "resident": last[1],
        "descriptors": descriptors() - descriptors_before,
        "threads": threading.active_count() - threads_before,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--loop", default="oxloop")
    parser.add_argument("--slope-max", type=float, default=1.0)
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=factory(args.loop)) as runner:
        found = runner.run(measure(args.connections))
    print(
        f"{args.loop}: {args.connections} connections, {found['slope']:.2f} bytes each, "
        f"{found['resident'] / 2**20:.1f} MiB resident, {found['descriptors']} descriptors and "
        f"{found['threads']} threads left"
    )
    is_good = (
        found["slope"] < args.slope_max and found["descriptors"] <= 0 and found["threads"] <= 0
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
