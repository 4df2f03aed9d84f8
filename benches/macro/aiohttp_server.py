"""aiohttp's web server with one handler, access log off; the body is the request's path."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web


async def _path(request: web.Request) -> web.Response:
    return web.Response(text=request.path)


async def serve(listener: socket.socket) -> None:
    """Serves until cancelled."""
    app = web.Application()
    app.router.add_get("/{connection}/{number}", _path)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
