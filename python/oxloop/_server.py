"""The Server that `create_server` returns: the native one, with its coroutines.

Source of behaviour: CPython `Lib/asyncio/base_events.py` (`Server`).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from . import _native_server

__all__ = ["Server"]

# Before 3.12.1 `wait_closed()` returned at once when the server was closed already.
_WAITS_FOR_CLIENTS = sys.version_info >= (3, 12, 1)


class Server(_native_server.Server, asyncio.AbstractServer):
    """Listening sockets and what serves their connections. Made by the loop.

    An asynchronous context manager: `async with server:` closes it and waits.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._waiters: list[asyncio.Future[None]] | None = []
        self._serving_forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def _wakeup(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _serving_ended(self) -> None:
        forever = self._serving_forever
        if forever is not None and not forever.done():
            forever.cancel()
            self._serving_forever = None

    def close_clients(self) -> None:
        """Close every connection of this server (`transport.close()`)."""
        for transport in list(self._clients):
            transport.close()

    def abort_clients(self) -> None:
        """Abort every connection of this server (`transport.abort()`)."""
        for transport in list(self._clients):
            transport.abort()

    async def start_serving(self) -> None:
        """Accept connections. Idempotent."""
        self._start_serving()
        # Give the loop an iteration, so that connections that wait are accepted.
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until cancelled; then the server is closed.

        Raises RuntimeError if the server is closed or another coroutine serves already.
        """
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._serving_forever = self.get_loop().create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            try:
                self.close()
                if sys.version_info >= (3, 14):
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever = None

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its connections are gone (3.12.1 and later)."""
        if self._waiters is None:
            return
        if self._sockets is None and not _WAITS_FOR_CLIENTS:
            return
        waiter = self.get_loop().create_future()
        self._waiters.append(waiter)
        await waiter
