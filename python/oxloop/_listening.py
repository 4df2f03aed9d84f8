"""Listening: TCP and Unix servers.

Source of behaviour: CPython `Lib/asyncio/base_events.py`, `unix_events.py`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl as ssl_module
import sys
from asyncio.log import logger
from collections.abc import Callable, Iterable
from typing import Any

from . import _socket_files
from ._attempts import bind_error
from ._connections import (
    ProtocolFactory,
    check_tls_timeouts,
    check_unix_stream,
    refuse_tls_socket,
)
from ._resolver import AddressInfo
from ._server import Server

# Since 3.13 a server removes its Unix socket, and an address that this machine does not have (a
# family that is switched off) is passed over.
_SINCE_3_13 = sys.version_info >= (3, 13)


class Servers:
    """The coroutines of the loop that make servers; a mixin of `EventLoop`."""

    async def create_server(
        self: Any,
        protocol_factory: ProtocolFactory,
        host: str | Iterable[str] | None = None,
        port: str | int | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: bool | ssl_module.SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Any:
        """Listen on every address of `host` (one or several names; None: every interface).

        Addresses that several names stand for are bound once. The SSL timeouts are in seconds.
        Returns the Server.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_timeouts(ssl is not None, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            refuse_tls_socket(sock)
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos = await self._resolve_hosts(host, port, family, flags)
            sockets = self._bind_all(
                infos,
                reuse_address=reuse_address is None or reuse_address,
                reuse_port=reuse_port,
                keep_alive=keep_alive,
            )
        elif sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        else:
            sockets = [sock]
        return await self._serve(
            sockets,
            protocol_factory,
            ssl,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            start_serving,
            is_given=sock is not None,
        )

    async def create_unix_server(
        self: Any,
        protocol_factory: ProtocolFactory,
        path: str | bytes | os.PathLike[Any] | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: bool | ssl_module.SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _SINCE_3_13,
    ) -> Any:
        """Listen on the Unix socket at `path`; a leading NUL means an abstract name.

        A socket that a dead server left there is replaced. With `cleanup_socket` (the default
        since Python 3.13) closing the server removes the path, if it is still this socket's.
        Returns the Server.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        is_given = sock is not None
        if path is not None:
            if is_given:
                raise ValueError("path and sock can not be specified at the same time")
            sock = _bind_unix(os.fspath(path))
        else:
            sock = check_unix_stream(sock, "path was not specified, and no sock specified")
        return await self._serve(
            [sock],
            protocol_factory,
            ssl,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            start_serving,
            _socket_files.remover(sock) if cleanup_socket else None,
            is_given=is_given,
        )

    async def _serve(
        self: Any,
        sockets: list[socket.socket],
        protocol_factory: ProtocolFactory,
        ssl: ssl_module.SSLContext | None,
        backlog: int,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None,
        start_serving: bool,
        on_close: Callable[[], None] | None = None,
        *,
        is_given: bool = False,
    ) -> Any:
        """The Server of bound sockets, accepting unless `start_serving` is false.

        If it cannot serve, the sockets are closed, unless they were given by the user.
        """
        for sock in sockets:
            sock.setblocking(False)
        server: Any = Server(
            self,
            sockets,
            protocol_factory,
            ssl,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        if on_close is not None:
            server._on_close = on_close
        if start_serving:
            try:
                server._start_serving()
            except BaseException:
                if not is_given:
                    server.close()
                raise
            # asyncio's servers are ready one iteration later, and programs count on that turn.
            await asyncio.sleep(0)
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _resolve_hosts(
        self: Any, host: Any, port: Any, family: int, flags: int
    ) -> list[AddressInfo]:
        """The addresses of one or several hosts, each once."""
        if host == "":
            hosts: list[Any] = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = list(host)
        answers = await asyncio.gather(
            *[self._create_server_getaddrinfo(name, port, family, flags) for name in hosts]
        )
        return list(dict.fromkeys(info for infos in answers for info in infos))

    async def _create_server_getaddrinfo(
        self: Any, host: Any, port: Any, family: int, flags: int
    ) -> list[AddressInfo]:
        """The addresses of one host; OSError if there are none."""
        infos: list[AddressInfo] = await self._ensure_resolved(
            (host, port), family=family, type=socket.SOCK_STREAM, flags=flags, loop=self
        )
        if not infos:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        return infos

    def _bind_all(
        self: Any,
        infos: list[AddressInfo],
        *,
        reuse_address: bool,
        reuse_port: bool | None,
        keep_alive: bool | None,
    ) -> list[socket.socket]:
        """Sockets bound to the addresses; on failure all of them are closed."""
        sockets: list[socket.socket] = []
        try:
            for family, kind, proto, _, address in infos:
                try:
                    sock = socket.socket(family, kind, proto)
                except OSError:
                    # A family that this machine does not have.
                    if self.get_debug():
                        logger.warning(
                            "create_server() failed to create socket.socket(%r, %r, %r)",
                            family,
                            kind,
                            proto,
                            exc_info=True,
                        )
                    continue
                sockets.append(sock)
                if reuse_address:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
                if reuse_port and family in (socket.AF_INET, socket.AF_INET6):
                    _set_reuse_port(sock)
                if keep_alive:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
                if family == socket.AF_INET6:
                    # IPv4 has a socket of its own.
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
                try:
                    sock.bind(address)
                except OSError as exc:
                    error = bind_error(exc, address)
                    if exc.errno != errno.EADDRNOTAVAIL or not _SINCE_3_13:
                        raise error from None
                    sockets.pop().close()
                    if self.get_debug():
                        logger.warning("%s", error.strerror)
            if not sockets and _SINCE_3_13:
                raise OSError(
                    f"could not bind on any address out of {[info[4] for info in infos]!r}"
                )
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets


def _set_reuse_port(sock: socket.socket) -> None:
    """Let several sockets bind to the port; ValueError where the system cannot."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None


def _bind_unix(path: str | bytes) -> socket.socket:
    """A Unix stream socket bound to `path`, in place of one that nobody uses any more."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not _socket_files.is_abstract(path):
            _socket_files.remove_stale(path)
        try:
            sock.bind(path)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
    except BaseException:
        sock.close()
        raise
    return sock
