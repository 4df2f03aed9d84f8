"""The EventLoop class that users see: the native loop, plus what asyncio expects of its type.

The native class implements the loop; here it gains `asyncio.AbstractEventLoop` as a base, so that
`isinstance` and event loop policies accept it, and a `__dict__`, so that programs may replace
methods on an instance. The operations that wait for several things in turn are coroutines and live
in `_connections.py`, `_datagrams.py`, `_listening.py`, `_pipes.py`, `_processes.py`,
`_resolver.py`, `_sendfile.py` and `_shutdown.py`.

Importing this module also makes native tasks visible to `asyncio.all_tasks()`, once per process.
"""

from __future__ import annotations

import asyncio
import os

from . import _oxloop, _visibility
from ._connections import Connections
from ._datagrams import Datagrams
from ._listening import Servers
from ._pipes import Pipes
from ._processes import Processes
from ._resolver import Resolver
from ._sendfile import Sendfile
from ._shutdown import Shutdown

__all__ = ["EventLoop"]


# typeshed's create_datagram_endpoint still has reuse_address, which Python 3.11 removed.
class EventLoop(  # type: ignore[misc]
    Shutdown,
    Connections,
    Servers,
    Datagrams,
    Sendfile,
    Pipes,
    Processes,
    Resolver,
    _oxloop.EventLoop,
    asyncio.AbstractEventLoop,
):
    """An event loop for asyncio, implemented in Rust.

    Drop-in for asyncio's loop: `asyncio.Runner(loop_factory=oxloop.EventLoop)`.
    """


_visibility.install()
os.register_at_fork(after_in_child=_visibility.after_fork_in_child)
