"""Connecting: TCP and Unix connections, sockets accepted elsewhere, TLS.

These are the operations that wait for several things in turn: names, attempts to connect
(`_attempts.py`), the transport, the handshake. They go through the loop's own methods
(`getaddrinfo`, `sock_connect`), so that a program may replace these. TLS over a transport that is
not ours is the running Python's `asyncio.sslproto`.

A socket that was made here is closed when anything fails before a transport owns it; one that the
caller gave stays the caller's until then.

Source of behaviour: CPython `Lib/asyncio/base_events.py`, `unix_events.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl as ssl_module
import sys
from asyncio import sslproto
from asyncio.log import logger
from collections.abc import Callable
from functools import partial
from typing import Any

from . import _oxloop
from ._attempts import Attempts
from ._resolver import interleave as _interleave

# gh-153133: a socket that was given is closed, too, when no transport could be made of it.
_CLOSES_GIVEN_SOCKETS = sys.version_info >= (3, 14)

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
Connection = tuple[Any, Any]


class Connections(Attempts):
    """The coroutines of the loop that make connections; a mixin of `EventLoop`."""

    async def create_connection(
        self: Any,
        protocol_factory: ProtocolFactory,
        host: str | bytes | None = None,
        port: str | bytes | int | None = None,
        *,
        ssl: bool | ssl_module.SSLContext | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str | None, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> Connection:
        """Connect to a TCP server, or make a transport of the connected stream socket `sock`.

        With `happy_eyeballs_delay` (seconds) attempts to several addresses overlap (RFC 8305).
        With `all_errors`, a failure raises an ExceptionGroup of every attempt's error. The SSL
        timeouts are in seconds. Returns `(transport, protocol)`.
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host  # type: ignore[assignment]
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            refuse_tls_socket(sock)
        if happy_eyeballs_delay is not None and interleave is None:
            interleave = 1
        made_here = False
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos, local_infos = await self._resolve_both_ends(
                (host, port), local_addr, family=family, proto=proto, flags=flags
            )
            if interleave:
                infos = _interleave(infos, interleave)
            sock = await self._connect_to_any(infos, local_infos, happy_eyeballs_delay, all_errors)
            made_here = True
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        transport, protocol = await self._create_connection_transport(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            made_here=made_here,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            logger.debug(
                "%r connected to %s:%r: (%r, %r)",
                transport.get_extra_info("socket"),
                host,
                port,
                transport,
                protocol,
            )
        return transport, protocol

    async def create_unix_connection(
        self: Any,
        protocol_factory: ProtocolFactory,
        path: str | bytes | os.PathLike[Any] | None = None,
        *,
        ssl: bool | ssl_module.SSLContext | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Connection:
        """Connect to the Unix socket at `path`; a leading NUL means an abstract name.

        Returns `(transport, protocol)`.
        """
        assert server_hostname is None or isinstance(server_hostname, str)
        if ssl:
            if server_hostname is None:
                raise ValueError("you have to pass server_hostname when using ssl")
        elif server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        made_here = path is not None
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            path = os.fspath(path)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
            try:
                sock.setblocking(False)
                await self.sock_connect(sock, path)
            except BaseException:
                sock.close()
                raise
        else:
            sock = check_unix_stream(sock, "no path and sock were specified")
        return await self._create_connection_transport(  # type: ignore[no-any-return]
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            made_here=made_here,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def connect_accepted_socket(
        self: Any,
        protocol_factory: ProtocolFactory,
        sock: socket.socket,
        *,
        ssl: bool | ssl_module.SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Connection:
        """Make a transport of a connection that was accepted elsewhere; the server's side of it.

        Returns `(transport, protocol)`.
        """
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        refuse_tls_socket(sock)
        transport, protocol = await self._create_connection_transport(
            sock,
            protocol_factory,
            ssl,
            "",
            server_side=True,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            logger.debug(
                "%r handled: (%r, %r)", transport.get_extra_info("socket"), transport, protocol
            )
        return transport, protocol

    async def start_tls(
        self: Any,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrade a connection to TLS; returns the transport that `protocol` uses from now on.

        On failure the connection is closed.
        """
        if not isinstance(sslcontext, ssl_module.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        is_native = isinstance(transport, (_oxloop.StreamTransport, _oxloop.TlsTransport))
        # No byte may reach the new protocol before it knows its transport.
        make: Any = self._make_tls_transport if is_native else partial(_foreign_tls, self)
        tls = make(
            protocol,
            sslcontext,
            waiter,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            call_connection_made=False,
        )
        transport.pause_reading()
        if server_side:
            _move_unread_bytes(protocol, tls)
        transport.set_protocol(tls)
        connecting = self.call_soon(tls._begin if is_native else tls.connection_made, transport)
        resuming = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            connecting.cancel()
            resuming.cancel()
            raise
        return tls if is_native else tls._app_transport

    async def _create_connection_transport(
        self: Any,
        sock: socket.socket,
        protocol_factory: ProtocolFactory,
        ssl: bool | ssl_module.SSLContext | None,
        server_hostname: str | None,
        server_side: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        *,
        made_here: bool = False,
    ) -> Connection:
        """Make protocol and transport for a connected socket, and wait until they are joined.

        The socket is closed on failure if it was `made_here` or a transport owns it already; since
        Python 3.14 also if it was given and no transport could be made of it.
        """
        try:
            sock.setblocking(False)
            protocol = protocol_factory()
            waiter = self.create_future()
            if ssl:
                transport = self._make_ssl_transport(
                    sock,
                    protocol,
                    None if isinstance(ssl, bool) else ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                )
            else:
                # Looked up here, as in asyncio: what is no protocol makes no connection.
                protocol.connection_made  # noqa: B018
                self._ensure_fd_no_transport(sock)
                transport = self._make_stream_transport(sock, protocol, waiter)
        except BaseException:
            if made_here or (_CLOSES_GIVEN_SOCKETS and not self._has_transport(sock)):
                sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        finally:
            # The error of a failed handshake holds this frame.
            del waiter
        return transport, protocol

    def _has_transport(self: Any, sock: socket.socket) -> bool:
        """Whether another transport has the descriptor."""
        try:
            self._ensure_fd_no_transport(sock)
        except (RuntimeError, ValueError):
            return True
        return False

    def _make_ssl_transport(
        self: Any,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext | None,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """The transport that `protocol` sees of a TLS connection over `sock`."""
        self._ensure_fd_no_transport(sock)
        transport = self._make_tls_transport(
            protocol,
            sslcontext,
            waiter,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_stream_transport(sock, transport, extra=extra, server=server)
        return transport


def _foreign_tls(loop: Any, protocol: Any, sslcontext: Any, waiter: Any, **options: Any) -> Any:
    """asyncio's TLS, for a transport that is not ours."""
    # Any: typeshed knows whole seconds only.
    new_tls_protocol: Any = sslproto.SSLProtocol
    return new_tls_protocol(loop, protocol, sslcontext, waiter, **options)


def check_tls_timeouts(ssl: Any, handshake_s: float | None, shutdown_s: float | None) -> None:
    """ValueError if a timeout is given for a connection without TLS."""
    if not ssl and handshake_s is not None:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if not ssl and shutdown_s is not None:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def refuse_tls_socket(sock: Any) -> None:
    """TypeError for a socket that does TLS by itself."""
    if isinstance(sock, ssl_module.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def check_unix_stream(sock: socket.socket | None, missing: str) -> socket.socket:
    """The given socket, if it is a Unix stream socket; ValueError otherwise."""
    if sock is None:
        raise ValueError(missing)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    sock.setblocking(False)
    return sock


def _move_unread_bytes(protocol: Any, tls: Any) -> None:
    """Hand what a stream protocol has received but not read to the TLS engine.

    The client may have sent its first TLS bytes in one segment with the last ones in clear. And
    what came in clear must never be read as if it had been encrypted.
    """
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return
    reader: Any = protocol._stream_reader  # type: ignore[attr-defined]
    if reader is not None and reader._buffer:
        feed = getattr(tls, "_feed_early", None) or tls._incoming.write
        feed(bytes(reader._buffer))
        reader._buffer.clear()
