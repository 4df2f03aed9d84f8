"""The extension's servers. A module of its own, so that its stub is checked against it."""

from ._oxloop import (
    Server,
    _Listener,
    remove_socket,
    socket_inode,
)

__all__ = [
    "Server",
    "_Listener",
    "remove_socket",
    "socket_inode",
]
