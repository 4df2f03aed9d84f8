"""The bridge to asyncio's event loop policies, for Python up to 3.15.

Facts: until 3.15 `asyncio.run` and `asyncio.new_event_loop` ask the policy for a loop. From 3.14
on the public names of policies warn, and 3.16 has none. Programs and libraries keep subclasses
of the default policy and read its `_loop_factory`.

Decision: the running version's own default policy, with our class as its factory, reached and
set by the names that do not warn. This module is imported at the first use of
`oxloop.EventLoopPolicy` or `oxloop.install`, never by `import oxloop`.

What can still go wrong: code that names a loop class itself (`asyncio.SelectorEventLoop()`) asks
no policy; `oxloop run` covers that too, see `_takeover.py`.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.unix_events
from typing import TYPE_CHECKING, Any

from oxloop._loop import EventLoop

# asyncio.DefaultEventLoopPolicy warns from 3.14 on; the class that it names does not.
_default_policy: Any = getattr(asyncio.unix_events, "_UnixDefaultEventLoopPolicy", None)

if _default_policy is None:
    raise RuntimeError(
        "this Python has no event loop policies; "
        "use asyncio.run(main(), loop_factory=oxloop.new_event_loop)"
    )

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as _DefaultPolicy
else:
    _DefaultPolicy = _default_policy


class EventLoopPolicy(_DefaultPolicy):
    """The default policy of this Python, with loops of oxloop.

    `asyncio.set_event_loop_policy(oxloop.EventLoopPolicy())` does what `oxloop.install()` does.
    """

    _loop_factory = EventLoop


def install() -> None:
    """Set our policy for the process, without a DeprecationWarning on 3.14 and later."""
    set_policy: Any = getattr(asyncio.events, "_set_event_loop_policy", None)
    if set_policy is None:
        set_policy = asyncio.set_event_loop_policy
    set_policy(EventLoopPolicy())
