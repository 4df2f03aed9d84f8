"""Names and addresses: what needs a look-up, and what is an address already.

A look-up may hang for a minute, so it runs in the loop's resolver threads. A numeric address with a
numeric port needs no look-up: the same call of the socket module answers it in microseconds, from
the loop's own thread, so the answer is the module's to the last detail. Whatever is not plainly
numeric (service names, zones such as `fe80::1%eth0`, short forms such as `127.1`, an address of
another family than asked for) takes the threads.

Source of behaviour: CPython `Lib/asyncio/base_events.py`.
"""

from __future__ import annotations

import socket
from asyncio.log import logger
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]

_NUMERIC_NAME = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_PROTOCOLS: set[int] = {0, socket.IPPROTO_TCP, socket.IPPROTO_UDP}
_PROTOCOL_OF_TYPE: dict[int, int] = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}


class Resolver:
    """Name resolution of the loop; a mixin of `EventLoop`."""

    async def getaddrinfo(
        self: Any,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """`socket.getaddrinfo` without blocking the loop."""
        self._check_closed()
        ask: Callable[..., list[AddressInfo]] = socket.getaddrinfo
        if self.get_debug():
            ask = self._getaddrinfo_debug
        if _needs_no_look_up(host, port, family):
            return ask(host, port, family, type, proto, flags)
        answer: list[AddressInfo] = await self._run_in_resolver(
            ask, host, port, family, type, proto, flags
        )
        return answer

    async def getnameinfo(self: Any, sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
        """`socket.getnameinfo` without blocking the loop."""
        self._check_closed()
        if flags & _NUMERIC_NAME == _NUMERIC_NAME and _is_numeric(sockaddr):
            return socket.getnameinfo(sockaddr, flags)
        answer: tuple[str, str] = await self._run_in_resolver(socket.getnameinfo, sockaddr, flags)
        return answer

    def _getaddrinfo_debug(
        self: Any, host: Any, port: Any, family: int, type: int, proto: int, flags: int
    ) -> list[AddressInfo]:
        """`socket.getaddrinfo`, with a line in the log on what was asked and how long it took."""
        question = [f"{host}:{port!r}"]
        for name, value in (
            ("family", family),
            ("type", type),
            ("proto", proto),
            ("flags", flags),
        ):
            if value:
                question.append(f"{name}={value!r}")
        text = ", ".join(question)
        logger.debug("Get address info %s", text)
        started = self.time()
        answer = socket.getaddrinfo(host, port, family, type, proto, flags)
        took_s = self.time() - started
        text = f"Getting address info {text} took {took_s * 1e3:.3f}ms: {answer!r}"
        if took_s >= self.slow_callback_duration:
            logger.info(text)
        else:
            logger.debug(text)
        return answer

    async def _ensure_resolved(
        self: Any,
        address: Sequence[Any],
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
        loop: Any,
    ) -> list[AddressInfo]:
        """The addresses behind `address`, a host and a port; `loop.getaddrinfo` finds names."""
        host, port = address[:2]
        info = address_info(host, port, family, type, proto, *address[2:])
        if info is not None:
            return [info]
        answer: list[AddressInfo] = await loop.getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )
        return answer


def address_info(
    host: Any,
    port: Any,
    family: int,
    type: int,
    proto: int,
    flowinfo: int = 0,
    scope_id: int = 0,
) -> AddressInfo | None:
    """The one answer for a numeric `host`; None if `host` or `port` have to be looked up."""
    if host is None or proto not in _PROTOCOLS or type not in _PROTOCOL_OF_TYPE:
        return None
    if port is None or port in ("", b""):
        number = 0
    else:
        try:
            number = int(port)
        except (TypeError, ValueError):
            return None
    name = host.decode("idna") if isinstance(host, bytes) else host
    if "%" in name:
        return None
    proto = _PROTOCOL_OF_TYPE[type]
    families = (socket.AF_INET, socket.AF_INET6) if family == socket.AF_UNSPEC else (family,)
    for candidate in families:
        try:
            socket.inet_pton(candidate, name)
        except OSError:
            continue
        if candidate == socket.AF_INET6:
            return candidate, type, proto, "", (name, number, flowinfo, scope_id)
        return candidate, type, proto, "", (name, number)
    return None


def interleave(infos: Iterable[AddressInfo], first: int) -> list[AddressInfo]:
    """Takes turns between address families (RFC 8305), after `first` of the preferred family."""
    by_family: dict[int, list[AddressInfo]] = {}
    for info in infos:
        by_family.setdefault(info[0], []).append(info)
    groups = list(by_family.values())
    head = groups[0][: first - 1]
    groups[0] = groups[0][first - 1 :]
    turns = chain.from_iterable(zip_longest(*groups))
    return head + [info for info in turns if info is not None]


def _is_numeric(address: Any) -> bool:
    """True if `socket.getnameinfo` finds numbers where it would look up names."""
    return (
        isinstance(address, tuple)
        and len(address) >= 2
        and _needs_no_look_up(address[0], address[1], socket.AF_UNSPEC)
    )


def _needs_no_look_up(host: Any, port: Any, family: int) -> bool:
    """True if `socket.getaddrinfo` can answer without asking anybody."""
    if isinstance(port, (str, bytes)):
        # Everything else is a number, None, or an error that the call itself reports.
        if not (port.isascii() and port.isdigit()):
            return False
    if host is None:
        return True
    if isinstance(host, bytes):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return False
    if not isinstance(host, str):
        return False
    for candidate in (socket.AF_INET, socket.AF_INET6):
        if family in (socket.AF_UNSPEC, candidate):
            try:
                socket.inet_pton(candidate, host)
            except (OSError, ValueError):
                continue
            return True
    return False
