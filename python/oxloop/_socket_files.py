"""The files of Unix sockets: one that a dead server left is removed, and one's own at the end.

The calls themselves are native (`socket_file.rs` tells why).

Source of behaviour: CPython `Lib/asyncio/unix_events.py`, `base_events.py`.
"""

from __future__ import annotations

import os
import socket
from asyncio.log import logger
from collections.abc import Callable

from ._native_server import remove_socket, socket_inode


def is_abstract(path: str | bytes) -> bool:
    """True for a name that has no file."""
    return path[:1] in ("", "\0", b"", b"\0")


def remove_stale(path: str | bytes) -> None:
    """Remove the socket at `path`, if there is one. What can't be removed is logged."""
    name = os.fsencode(path)
    try:
        if socket_inode(name) is not None:
            remove_socket(name)
    except OSError as err:
        # The folder may only allow to create: let bind() find out.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, err)


def remover(sock: socket.socket) -> Callable[[], None] | None:
    """A function that removes the file of a bound socket, unless it was replaced meanwhile.

    None where there is no file. OSError where it can't be seen.
    """
    path = sock.getsockname()
    if is_abstract(path):
        return None
    name = os.fsencode(path)
    inode = socket_inode(name)
    if inode is None:
        return None

    def remove() -> None:
        try:
            if socket_inode(name) == inode:
                remove_socket(name)
        except OSError as err:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, err)

    return remove
