"""Sending files: by the kernel where it can, else by reading and writing.

The kernel copies from the file into the socket (`os.sendfile`); after each call the loop waits for
room, so that one file does not keep the others waiting. Where that is impossible (a file object
without a descriptor, a connection with TLS) the file is read in the default executor, block by
block. Either way sending begins at `offset`, and the file's position is in the end where sending
stopped, errors and cancellation included (as in asyncio since 3.14; before, it depended on the way
and on whether anything was sent). A file that cannot be sent is left as it was.

The descriptor of a socket is looked up before each call: one that was closed meanwhile has none,
so no byte goes to whoever got its number.

Source of behaviour: CPython `Lib/asyncio/base_events.py`, `unix_events.py`, `selector_events.py`.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import sys
from asyncio import constants
from collections.abc import Awaitable, Callable
from typing import IO, Any

from ._connections import refuse_tls_socket

# A count of bytes must fit the system's type; the rest of the file comes with the next call.
_CALL_BYTES_MAX = sys.maxsize // 2 + 1
_BLOCK_BYTES = 16384
# As it is now: tools that report blocking calls replace it, and on our sockets it does not block.
_KERNEL_SENDFILE = os.sendfile

# Any: typeshed does not know asyncio's private names.
_MODES: Any = constants._SendfileMode


class Sendfile:
    """`sendfile` and `sock_sendfile`; a mixin of `EventLoop`."""

    async def sendfile(
        self: Any,
        transport: asyncio.WriteTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send `file` over `transport`, from `offset` on, `count` bytes or to the end.

        Returns the number of bytes sent. With `fallback` the file is read and written where the
        kernel cannot send it; without, that is a SendfileNotAvailableError, or a RuntimeError if
        the transport rules it out.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", _MODES.UNSUPPORTED)
        if mode is _MODES.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is _MODES.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)  # type: ignore[no-any-return]
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                "fallback is disabled and native sendfile is not "
                f"supported for transport {transport!r}"
            )
        return await self._sendfile_fallback(transport, file, offset, count)  # type: ignore[no-any-return]

    async def sock_sendfile(
        self: Any,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send `file` through the non-blocking stream socket `sock`; as `sendfile` otherwise."""
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        refuse_tls_socket(sock)
        self._check_sendfile_params(sock, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)  # type: ignore[no-any-return]
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sock_sendfile_fallback(sock, file, offset, count)  # type: ignore[no-any-return]

    async def _sendfile_native(
        self: Any, transp: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        """By the kernel; nothing is read or written by the transport meanwhile."""
        resume_reading = transp.is_reading()
        emptied = transp._make_empty_waiter()
        try:
            transp.pause_reading()
            await emptied
            self._check_sendfile_params(transp._sock, file, offset, count)

            def number() -> int:
                # Between the decision to close and the close the number is still there.
                return -1 if transp.is_closing() else transp._sock_fd

            return await _send_by_kernel(number, transp._make_room_waiter, file, offset, count)
        finally:
            transp._reset_empty_waiter()
            if resume_reading:
                transp.resume_reading()

    async def _sock_sendfile_native(
        self: Any, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        """By the kernel, through a socket of the caller's."""
        return await _send_by_kernel(
            sock.fileno, lambda: self._socket_has_room(sock), file, offset, count
        )

    async def _socket_has_room(self: Any, sock: socket.socket) -> None:
        """Wait until the socket can be written."""
        fd = sock.fileno()
        waiter = self.create_future()

        def ready() -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.add_writer(fd, ready)
        try:
            await waiter
        finally:
            # A socket that was closed meanwhile is not watched, and its number not ours.
            if sock.fileno() == fd:
                self.remove_writer(fd)

    async def _sendfile_fallback(
        self: Any, transp: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        """By the transport's `write`, at the speed of the peer."""
        _seek_to(file, offset)
        buffer = bytearray(_BLOCK_BYTES)
        borrowed = _BorrowedTransport(self, transp)
        total_sent = 0
        try:
            while True:
                bytes_left = count - total_sent if count else None
                block = await _read_block(self, file, buffer, bytes_left)
                if not block:
                    return total_sent
                await borrowed.drain()
                # A copy: what the transport queues is its own.
                transp.write(bytes(block))
                total_sent += len(block)
        finally:
            _seek_behind(file, offset, total_sent)
            borrowed.give_back()

    async def _sock_sendfile_fallback(
        self: Any, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        """By `sock_sendall`."""
        _seek_to(file, offset)
        # Looked up now: it is a constant that programs set.
        buffer = bytearray(constants.SENDFILE_FALLBACK_READBUFFER_SIZE)
        total_sent = 0
        try:
            while True:
                bytes_left = count - total_sent if count else None
                block = await _read_block(self, file, buffer, bytes_left)
                if not block:
                    return total_sent
                await self.sock_sendall(sock, block)
                total_sent += len(block)
        finally:
            _seek_behind(file, offset, total_sent)

    def _check_sendfile_params(
        self: Any, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> None:
        """TypeError or ValueError for what cannot be sent."""
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is not None:
            text = f"count must be a positive integer (got {count!r})"
            if not isinstance(count, int):
                raise TypeError(text)
            if count <= 0:
                raise ValueError(text)
        text = f"offset must be a non-negative integer (got {offset!r})"
        if not isinstance(offset, int):
            raise TypeError(text)
        if offset < 0:
            raise ValueError(text)


async def _send_by_kernel(
    socket_number: Callable[[], int],
    wait_for_room: Callable[[], Awaitable[None]],
    file: IO[bytes],
    offset: int,
    count: int | None,
) -> int:
    """`os.sendfile` again and again; SendfileNotAvailableError if not even the first call works.

    `socket_number` tells the socket's descriptor, -1 once closed.
    """
    try:
        file_number = file.fileno()
    except (AttributeError, io.UnsupportedOperation) as err:
        raise asyncio.SendfileNotAvailableError("not a regular file") from err
    try:
        size = os.fstat(file_number).st_size
    except OSError as err:
        raise asyncio.SendfileNotAvailableError("not a regular file") from err
    block_bytes = count if count else size
    if not block_bytes:
        return 0
    total_sent = 0
    refused = False
    try:
        while True:
            if count:
                block_bytes = count - total_sent
                if block_bytes <= 0:
                    return total_sent
            size = min(block_bytes, _CALL_BYTES_MAX)
            try:
                sent = _KERNEL_SENDFILE(socket_number(), file_number, offset, size)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as err:
                if total_sent == 0:
                    # Among other reasons: the file is not one that can be mapped.
                    refused = True
                    raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from err
                if err.errno == errno.ENOTCONN and type(err) is not ConnectionError:
                    # The connection was closed between two calls.
                    raise ConnectionError("socket is not connected", errno.ENOTCONN) from err
                raise
            else:
                if sent == 0:
                    return total_sent
                offset += sent
                total_sent += sent
            await wait_for_room()
    finally:
        if not refused:
            os.lseek(file_number, offset, os.SEEK_SET)


async def _read_block(
    loop: asyncio.AbstractEventLoop, file: Any, buffer: bytearray, bytes_left: int | None
) -> memoryview:
    """The next block of the file, read into `buffer` by a thread; empty at the end."""
    size = len(buffer) if bytes_left is None else max(0, min(len(buffer), bytes_left))
    view = memoryview(buffer)[:size]
    if not size:
        return view
    read = await loop.run_in_executor(None, file.readinto, view)
    return view[: read or 0]


def _seek_to(file: Any, offset: int) -> None:
    """Put the file's position where sending begins; a pipe has none, and begins where it is."""
    if offset or _has_position(file):
        file.seek(offset)


def _seek_behind(file: Any, offset: int, total_sent: int) -> None:
    """Put the file's position where sending stopped; the reading may have gone further."""
    if total_sent > 0 and _has_position(file):
        file.seek(offset + total_sent)


def _has_position(file: Any) -> bool:
    if not hasattr(file, "seek"):
        return False
    seekable = getattr(file, "seekable", None)
    return seekable is None or bool(seekable())


class _BorrowedTransport(asyncio.Protocol):
    """Takes the place of a transport's protocol while a file is written, to follow its pace."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._owner = transport.get_protocol()
        self._resume_reading = transport.is_reading()
        self._resume_writing = transport._protocol_paused
        transport.pause_reading()
        transport.set_protocol(self)
        self._room: asyncio.Future[None] | None = None
        if self._resume_writing:
            self._room = loop.create_future()

    async def drain(self) -> None:
        """Wait until the transport wants more; ConnectionError once it is closed."""
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._room is not None:
            await self._room

    def give_back(self) -> None:
        """Put the protocol back in its place and in its state."""
        self._transport.set_protocol(self._owner)
        if self._resume_reading:
            self._transport.resume_reading()
        if self._room is not None:
            self._room.cancel()
        if self._resume_writing:
            self._owner.resume_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._room is not None and not self._room.done():
            # The file was not sent to its end, so for the caller this is an error in any case.
            self._room.set_exception(exc or ConnectionError("Connection is closed by peer"))
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            if not room.done():
                room.set_result(None)

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")
