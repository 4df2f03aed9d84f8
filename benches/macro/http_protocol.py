"""The least HTTP/1.1 that a keep-alive client accepts, by protocol.

It shows what the loop itself costs under an HTTP server: the parsing is one `find` and one
`split`. Each reply's body is the request's path, so that the load generator can tell whether it
got the reply to its own request. Not a web server: it reads GET requests without a body only.
"""

from __future__ import annotations

import asyncio
import socket

HEAD_END = b"\r\n\r\n"


class _Http(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        received = self.received + data if self.received else data
        while (end := received.find(HEAD_END)) >= 0:
            path = received[:end].split(b" ", 2)[1]
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
                % (len(path), path)
            )
            received = received[end + len(HEAD_END) :]
        self.received = received


async def serve(listener: socket.socket) -> None:
    """Serves until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Http, sock=listener)
    await server.serve_forever()
