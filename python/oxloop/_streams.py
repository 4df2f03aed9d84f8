"""Streams: the classes that programs see, and the coroutines that open connections with them.

Each class has the native one as its first base and asyncio's as its second. What happens once a
message is native; what happens once a connection (`start_tls`, `wait_closed`, the warning of an
unclosed writer) comes from the running version of asyncio and works on the same attributes. So the
classes are asyncio's to `isinstance` and `issubclass`, and programs derive from them.

They work on any loop; on a loop of ours bytes go from the transport into the reader in one call.

What can still go wrong: code that expects `reader._buffer` to be a bytearray. It is a
`StreamBuffer`, which looks at the reader each time it is asked.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import streams
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from oxloop import _native_streams
from oxloop._stream_buffer import StreamBuffer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# What is in public signatures must be there for typing.get_type_hints.
StrPath = str | os.PathLike[str]

# asyncio.streams._DEFAULT_LIMIT: bytes
DEFAULT_LIMIT = 2**16

ClientConnected = Callable[["StreamReader", "StreamWriter"], Awaitable[None] | None]


class StreamReader(_native_streams.StreamReader, streams.StreamReader):  # type: ignore[misc]
    """The reading end of a stream: `read`, `readexactly`, `readuntil`, `readline`, `async for`.

    Args:
        limit: bytes that a line or a message up to a separator may have; above twice as many
            unread bytes the transport is paused.
        loop: the event loop, by default the current one.

    Raises:
        ValueError: `limit` is not above zero.
    """

    __slots__ = ()

    @property
    def _buffer(self) -> StreamBuffer:
        return StreamBuffer(self)

    @_buffer.setter
    def _buffer(self, data: ReadableBuffer) -> None:
        self._replace_unread(bytes(data))


class StreamReaderProtocol(_native_streams.StreamReaderProtocol, streams.StreamReaderProtocol):
    """The protocol between a transport and a reader; writers ask it when they must wait.

    Args:
        stream_reader: what gets the bytes; held weakly.
        client_connected_cb: a server's callback `(reader, writer)`; its coroutine becomes a task.
        loop: the event loop, by default the current one.
    """

    __slots__ = ()

    def _replace_transport(self, transport: Any) -> None:
        super()._replace_transport(transport)  # type: ignore[misc]
        self._show_reader(transport)

    def _replace_writer(self, writer: Any) -> None:
        # The name in some releases of 3.11 and 3.12.
        super()._replace_writer(writer)  # type: ignore[misc]
        self._show_reader(writer.transport)

    def _show_reader(self, transport: Any) -> None:
        """After `start_tls` the reader pauses the new transport, on every version."""
        reader: Any = self._stream_reader
        if reader is not None:
            reader._transport = transport


class StreamWriter(_native_streams.StreamWriter, streams.StreamWriter):
    """The writing end of a stream: `write`, `writelines`, `drain`, `close`, `start_tls`.

    Args:
        transport: where the bytes go.
        protocol: what says when `drain` must wait.
        reader: the other end, or None.
        loop: the event loop.
    """

    __slots__ = ()


_native_streams._set_stream_classes(StreamReader, StreamWriter, StreamReaderProtocol)


def _client(limit: int) -> tuple[asyncio.AbstractEventLoop, StreamReader, StreamReaderProtocol]:
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    return loop, reader, StreamReaderProtocol(reader, None, loop)


def _server(
    client_connected_cb: ClientConnected, limit: int
) -> tuple[asyncio.AbstractEventLoop, Callable[[], StreamReaderProtocol]]:
    loop = asyncio.get_running_loop()

    def factory() -> StreamReaderProtocol:
        return StreamReaderProtocol(StreamReader(limit, loop), client_connected_cb, loop)

    return loop, factory


async def open_connection(
    host: Any = None, port: Any = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a TCP server; `(reader, writer)`.

    Args:
        host, port, kwds: as for `loop.create_connection`.
        limit: of the reader, in bytes.

    Raises:
        OSError: the connection could not be made.
    """
    loop, reader, protocol = _client(limit)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Listen for TCP connections and call `client_connected_cb(reader, writer)` for each.

    Args:
        client_connected_cb: a function; if it returns a coroutine, that becomes a task, whose
            exception goes to the loop's exception handler and closes the connection.
        host, port, kwds: as for `loop.create_server`.
        limit: of the readers, in bytes.
    """
    loop, factory = _server(client_connected_cb, limit)
    return await loop.create_server(factory, host, port, **kwds)


async def open_unix_connection(
    path: StrPath | None = None, *, limit: int = DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Like `open_connection`, to the Unix stream socket at `path`."""
    loop, reader, protocol = _client(limit)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)  # type: ignore[arg-type]
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: StrPath | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Like `start_server`, on a Unix stream socket at `path`."""
    loop, factory = _server(client_connected_cb, limit)
    return await loop.create_unix_server(factory, path, **kwds)
