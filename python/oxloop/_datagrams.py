"""Datagram endpoints: sockets bound, connected or both, and handed to a native transport.

A name may have addresses of several families, so local and remote addresses are paired by family
and protocol, and each pair is tried until one works; the error of the first is what is reported.
A stale Unix socket in the place of the local address is removed, as asyncio does.

With `allow_broadcast` a remote address is not connected, because a connected socket would not see
the answers to a broadcast; the transport then sends to this one address only.

Source of behaviour: CPython `Lib/asyncio/base_events.py`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from . import _socket_files
from ._listening import _set_reuse_port as set_reuse_port

# (family, proto), (local address, remote address)
Attempt = tuple[tuple[int, int], tuple[Any, Any]]

# Later versions take raw sockets and their like (gh-114887).
_DATAGRAM_SOCKETS_ONLY = sys.version_info < (3, 11, 8) or ((3, 12) <= sys.version_info < (3, 12, 2))


class Datagrams:
    """`create_datagram_endpoint`; a mixin of `EventLoop`."""

    async def create_datagram_endpoint(
        self: Any,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[Any, Any]:
        """Make a datagram socket, or take `sock`, and a transport for it.

        `local_addr` is what it is bound to, `remote_addr` the only address it exchanges datagrams
        with; each is a host and a port, or a path with `family=socket.AF_UNIX`. Returns
        `(transport, protocol)`; errors are those of the last step that failed, OSError mostly.
        """
        r_addr = None
        made_here = sock is None
        if sock is not None:
            _check_given_socket(
                sock,
                {
                    "local_addr": local_addr,
                    "remote_addr": remote_addr,
                    "family": family,
                    "proto": proto,
                    "flags": flags,
                    "reuse_port": reuse_port,
                    "allow_broadcast": allow_broadcast,
                },
            )
            sock.setblocking(False)
        else:
            attempts = await self._datagram_attempts(local_addr, remote_addr, family, proto, flags)
            sock, r_addr = await self._open_datagram_socket(
                attempts,
                bind=bool(local_addr),
                remote=bool(remote_addr),
                reuse_port=bool(reuse_port),
                broadcast=bool(allow_broadcast),
            )
        try:
            protocol = protocol_factory()
            # Looked up here, as in asyncio: what is no protocol makes no endpoint.
            protocol.connection_made  # noqa: B018
            waiter = self.create_future()
            transport = self._make_datagram_transport(sock, protocol, r_addr, waiter)
        except BaseException:
            if made_here:
                sock.close()
            raise
        if self.get_debug():
            _log_endpoint(local_addr, remote_addr, transport, protocol)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _datagram_attempts(
        self: Any, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> list[Attempt]:
        """What to try, in order."""
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [((family, proto), (None, None))]
        if family == socket.AF_UNIX:
            for addr in (local_addr, remote_addr):
                if addr is not None and not isinstance(addr, str):
                    raise TypeError("string is expected")
            if local_addr and local_addr[0] != "\x00":
                _socket_files.remove_stale(local_addr)
            return [((family, proto), (local_addr, remote_addr))]
        pairs: dict[tuple[int, int], list[Any]] = {}
        for index, addr in enumerate((local_addr, remote_addr)):
            if addr is None:
                continue
            if not (isinstance(addr, tuple) and len(addr) == 2):
                raise TypeError("2-tuple is expected")
            infos = await self._ensure_resolved(
                addr, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags, loop=self
            )
            if not infos:
                raise OSError("getaddrinfo() returned empty list")
            for found_family, _, found_proto, _, address in infos:
                pair = pairs.setdefault((found_family, found_proto), [None, None])
                pair[index] = address
        attempts = [
            (key, (local, remote))
            for key, (local, remote) in pairs.items()
            if not ((local_addr and local is None) or (remote_addr and remote is None))
        ]
        if not attempts:
            raise ValueError("can not get address information")
        return attempts

    async def _open_datagram_socket(
        self: Any,
        attempts: list[Attempt],
        *,
        bind: bool,
        remote: bool,
        reuse_port: bool,
        broadcast: bool,
    ) -> tuple[socket.socket, Any]:
        """A socket for the first attempt that works, and its remote address, if there is one."""
        failures: list[OSError] = []
        try:
            for (family, proto), (local_address, remote_address) in attempts:
                sock: socket.socket | None = None
                try:
                    sock = socket.socket(family=family, type=socket.SOCK_DGRAM, proto=proto)
                    if reuse_port:
                        set_reuse_port(sock)
                    if broadcast:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    sock.setblocking(False)
                    if bind:
                        sock.bind(local_address)
                    if remote and not broadcast:
                        await self.sock_connect(sock, remote_address)
                    return sock, remote_address if remote else None
                except BaseException as exc:
                    if sock is not None:
                        sock.close()
                    if not isinstance(exc, OSError):
                        raise
                    failures.append(exc)
            raise failures[0]
        finally:
            # The errors hold this frame by their tracebacks.
            del failures


def _check_given_socket(sock: socket.socket, options: dict[str, Any]) -> None:
    """ValueError if the socket is of the wrong type or comes with options for making one."""
    if _DATAGRAM_SOCKETS_ONLY:
        if sock.type != socket.SOCK_DGRAM:
            raise ValueError(f"A UDP Socket was expected, got {sock!r}")
    elif sock.type == socket.SOCK_STREAM:
        raise ValueError(f"A datagram socket was expected, got {sock!r}")
    problems = ", ".join(f"{name}={value}" for name, value in options.items() if value)
    if problems:
        raise ValueError(
            "socket modifier keyword arguments can not be used "
            f"when sock is specified. ({problems})"
        )


def _log_endpoint(local_addr: Any, remote_addr: Any, transport: Any, protocol: Any) -> None:
    """Debug mode: say what was made."""
    if local_addr:
        logger.info(
            "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
            local_addr,
            remote_addr,
            transport,
            protocol,
        )
    else:
        logger.debug(
            "Datagram endpoint remote_addr=%r created: (%r, %r)", remote_addr, transport, protocol
        )
