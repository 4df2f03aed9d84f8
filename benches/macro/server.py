"""A server to be measured: `python benches/macro/server.py LOOP KIND`.

Listens on a free port of 127.0.0.1, prints the port, and serves until it is terminated. KIND is
one of `KINDS`; the modules aiohttp and uvicorn are imported only for the kinds of these names.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

# Run as a script: make benches/ the place that modules are found in, and not this folder.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from loops import factory_of, namespace_of  # noqa: E402

# Kind -> module:function that serves on a listening socket.
KINDS = {
    "protocol": "macro.echo:serve_protocol",
    "tls": "macro.echo:serve_tls",
    "buffered": "macro.echo:serve_buffered",
    "streams": "macro.echo:serve_streams",
    "sock": "macro.echo:serve_sock",
    "http": "macro.http_protocol:serve",
    "aiohttp": "macro.aiohttp_server:serve",
    "uvicorn": "macro.uvicorn_server:serve",
}
# The load generator's connections may all come at once.
BACKLOG = 1024
ALLOCATOR_BLOCK_BYTES = 4 * 1024 * 1024

Serve = Callable[[socket.socket], Awaitable[None]]


def listening_socket() -> socket.socket:
    """A non-blocking listening socket on a free port of the loopback.

    The protocol is given, as in the sockets that loops make themselves: asyncio sets TCP_NODELAY
    only where it reads IPPROTO_TCP, and a server of two writes per reply without it waits 40 ms.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def settle_allocator() -> None:
    """Frees one large block, as every server has done after some time.

    glibc maps large blocks afresh each time until it has seen one of that size freed whole. A
    loop that allocates 256 KiB for a read and shrinks it (asyncio does) pays for a map, a remap
    and an unmap per read before that, and nothing after it: 30 or 10 µs per echo, depending on
    what happened to be imported. No loop shall win or lose by that accident.
    """
    bytearray(ALLOCATOR_BLOCK_BYTES)


def main() -> None:
    parser = argparse.ArgumentParser(description="One server on one loop; prints its port.")
    parser.add_argument("loop")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--fresh", action="store_true", help="do not settle the allocator")
    args = parser.parse_args()
    name, _, function = KINDS[args.kind].partition(":")
    module = importlib.import_module(name)
    serve: Serve = getattr(module, function)
    vars(module)["asyncio"] = namespace_of(args.loop)

    async def serve_on(listener: socket.socket) -> None:
        await serve(listener)

    if not args.fresh:
        settle_allocator()
    with listening_socket() as listener, asyncio.Runner(loop_factory=factory_of(args.loop)) as run:
        # Connections made from now on wait in the listen queue until the loop accepts.
        print(listener.getsockname()[1], flush=True)
        run.run(serve_on(listener))


if __name__ == "__main__":
    main()
