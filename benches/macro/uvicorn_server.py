"""uvicorn with a bare ASGI application, logs off; the body is the request's path.

uvicorn takes httptools to parse if that is installed and h11 otherwise, which is several times
slower: compare only reports that were made with the same packages.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Message = dict[str, Any]


async def _path(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    body = scope["path"].encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def serve(listener: socket.socket) -> None:
    """Serves on the running loop until terminated."""
    config = uvicorn.Config(_path, log_level="critical", access_log=False, lifespan="off")
    await uvicorn.Server(config).serve(sockets=[listener])
