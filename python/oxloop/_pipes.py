"""`connect_read_pipe` and `connect_write_pipe`: native transports over files and sockets.

The pipe object stays the caller's until the transport exists; from then on the transport closes it,
once. A caller that is cancelled while it waits loses the transport and with it the pipe.

Source of behaviour: CPython `Lib/asyncio/base_events.py`, `unix_events.py`.
"""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from collections.abc import Callable
from typing import Any


class Pipes:
    """The coroutines of the loop that connect pipes; a mixin of `EventLoop`."""

    async def connect_read_pipe(
        self: Any, protocol_factory: Callable[[], asyncio.BaseProtocol], pipe: Any
    ) -> tuple[Any, Any]:
        """Read from `pipe`, a file-like object over a pipe, socket or character device.

        Returns `(transport, protocol)`. ValueError for other files.
        """
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = self._make_read_pipe_transport(pipe, protocol, waiter)
        await _until_connected(transport, waiter)
        if self.get_debug():
            logger.debug("Read pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol

    async def connect_write_pipe(
        self: Any, protocol_factory: Callable[[], asyncio.BaseProtocol], pipe: Any
    ) -> tuple[Any, Any]:
        """Write to `pipe`, a file-like object over a pipe, socket or character device.

        Returns `(transport, protocol)`. ValueError for other files.
        """
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = self._make_write_pipe_transport(pipe, protocol, waiter)
        await _until_connected(transport, waiter)
        if self.get_debug():
            logger.debug("Write pipe %r connected: (%r, %r)", pipe.fileno(), transport, protocol)
        return transport, protocol


async def _until_connected(transport: Any, waiter: asyncio.Future[None]) -> None:
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
