# The types of servers and of their sockets' files.

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Self, SupportsIndex, final
from weakref import WeakSet

from typing_extensions import disjoint_base

from oxloop._oxloop import EventLoop

__all__ = [
    "Server",
    "_Listener",
    "remove_socket",
    "socket_inode",
]

def socket_inode(path: bytes) -> int | None: ...
def remove_socket(path: bytes) -> None: ...

@disjoint_base
class Server:
    def __new__(
        cls,
        loop: EventLoop,
        sockets: Iterable[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        ssl_context: ssl.SSLContext | None,
        backlog: SupportsIndex,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Self: ...
    @property
    def sockets(self) -> tuple[socket.socket, ...]: ...
    def get_loop(self) -> asyncio.AbstractEventLoop: ...
    def is_serving(self) -> bool: ...
    def close(self) -> None: ...
    def _start_serving(self) -> None: ...
    def _attach(self, transport: asyncio.BaseTransport) -> None: ...
    def _detach(self, transport: asyncio.BaseTransport) -> None: ...
    @property
    def _active_count(self) -> int: ...
    @property
    def _clients(self) -> WeakSet[asyncio.Transport]: ...
    @property
    def _sockets(self) -> list[socket.socket] | None: ...
    _on_close: Callable[[], object] | None

# A listening socket of a Server; calling it ends the rest after a failed accept.
@final
class _Listener:
    def __call__(self) -> None: ...
