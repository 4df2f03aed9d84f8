"""Attempts to connect: one address after the other, or overlapping (happy eyeballs).

A host may have many addresses, and the first one may be unreachable. What is reported in the end
depends on all attempts, so each leaves its errors in a list of its own. The overlap is the running
Python's `asyncio.staggered`.

Source of behaviour: CPython `Lib/asyncio/base_events.py`.
"""

from __future__ import annotations

import socket
import sys
from asyncio import staggered
from collections.abc import Sequence
from typing import Any

from ._resolver import AddressInfo

# Up to 3.12 the text of a failed bind has the bare reason, later the number too.
_NUMBERED_BIND_ERRORS = sys.version_info >= (3, 13)


class Attempts:
    """How `create_connection` finds a connected socket; a base of `Connections`."""

    async def _resolve_both_ends(
        self: Any,
        address: tuple[Any, Any],
        local_addr: tuple[Any, Any] | None,
        *,
        family: int,
        proto: int,
        flags: int,
    ) -> tuple[list[AddressInfo], list[AddressInfo] | None]:
        """The addresses to connect to, and those to bind to before, if any."""
        answers = []
        for wanted in (address,) if local_addr is None else (address, local_addr):
            infos = await self._ensure_resolved(
                wanted,
                family=family,
                type=socket.SOCK_STREAM,
                proto=proto,
                flags=flags,
                loop=self,
            )
            if not infos:
                raise OSError("getaddrinfo() returned empty list")
            answers.append(infos)
        return answers[0], answers[1] if local_addr is not None else None

    async def _connect_to_any(
        self: Any,
        infos: Sequence[AddressInfo],
        local_infos: list[AddressInfo] | None,
        delay: float | None,
        all_errors: bool,
    ) -> socket.socket:
        """A socket connected to one of the addresses; `delay` as `happy_eyeballs_delay`."""
        failures: list[list[Exception]] = []
        sock: socket.socket | None = None
        try:
            if delay is None:
                for info in infos:
                    try:
                        sock = await self._connect_sock(failures, info, local_infos)
                        break
                    except OSError:
                        continue
            else:
                attempts = [
                    # No partial object: it would keep the list.
                    lambda info=info: self._connect_sock(failures, info, local_infos)
                    for info in infos
                ]
                sock = (await staggered.staggered_race(attempts, delay, loop=self))[0]
            if sock is None:
                raise _combined([error for attempt in failures for error in attempt], all_errors)
            return sock
        finally:
            # The errors hold this frame by their tracebacks.
            failures.clear()

    async def _connect_sock(
        self: Any,
        exceptions: list[list[Exception]],
        addr_info: AddressInfo,
        local_addr_infos: list[AddressInfo] | None = None,
    ) -> socket.socket:
        """Make a socket, bind and connect it; errors are added to `exceptions` and raised."""
        mine: list[Exception] = []
        exceptions.append(mine)
        family, kind, proto, _, address = addr_info
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family=family, type=kind, proto=proto)
            sock.setblocking(False)
            if local_addr_infos is not None:
                _bind_to_any(sock, family, local_addr_infos, mine)
            await self.sock_connect(sock, address)
            return sock
        except OSError as exc:
            mine.append(exc)
            if sock is not None:
                sock.close()
            raise
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        finally:
            del mine, exceptions


def bind_error(err: OSError, address: Any) -> OSError:
    """The error of a failed `bind`, naming the address."""
    reason = str(err) if _NUMBERED_BIND_ERRORS else str(err.strerror)
    text = f"error while attempting to bind on address {address!r}: {reason.lower()}"
    return OSError(err.errno, text)


def _bind_to_any(
    sock: socket.socket, family: int, infos: Sequence[AddressInfo], failures: list[Exception]
) -> None:
    """Bind to the first local address of the family that can be had."""
    for info in infos:
        if info[0] != family:
            continue
        try:
            sock.bind(info[4])
            return
        except OSError as exc:
            failures.append(bind_error(exc, info[4]))
    if failures:
        raise failures.pop()
    raise OSError(f"no matching local address with {family=} found")


def _combined(failures: list[Exception], all_errors: bool) -> BaseException:
    """One exception for all failed attempts to connect."""
    if not failures:
        return TimeoutError("create_connection failed")
    if all_errors:
        return ExceptionGroup("create_connection failed", failures)
    texts = [str(error) for error in failures]
    if all(text == texts[0] for text in texts):
        return failures[0]
    return OSError("Multiple exceptions: {}".format(", ".join(texts)))
