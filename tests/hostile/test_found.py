"""What the hostile combinations found, each as the small program that shows it."""

import asyncio
import gc
import os
import sys
from typing import Any

import oxloop
import pytest


@pytest.mark.parametrize("end", ["read", "write"])
def test_a_pipe_transport_that_is_its_own_pipe_is_freed(end: str) -> None:
    """The collector could not break the cycle: the pipe was kept for a finalizer that had run."""
    loop = oxloop.EventLoop()
    descriptors = os.pipe()
    files = [os.fdopen(descriptors[0], "rb", 0), os.fdopen(descriptors[1], "wb", 0)]

    async def connect() -> asyncio.BaseTransport:
        if end == "read":
            return (await loop.connect_read_pipe(asyncio.Protocol, files[0]))[0]
        return (await loop.connect_write_pipe(asyncio.BaseProtocol, files[1]))[0]

    transport = loop.run_until_complete(connect())
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    transport._pipe = transport  # type: ignore[attr-defined]
    kind = type(transport)
    del transport
    loop.close()
    for file in files:
        file.close()
    gc.collect()
    # A weak reference would be dead even if the object were not.
    assert not [item for item in gc.get_objects() if type(item) is kind]


def test_a_step_outside_the_running_loop_leaves_no_current_task() -> None:
    """A future that calls its callbacks at once: the task stayed the current one for ever."""

    class Awaited:
        _asyncio_future_blocking = True

        def get_loop(self) -> asyncio.AbstractEventLoop:
            return loop

        def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
            self.callback = callback

        def result(self) -> None: ...

        def __await__(self) -> Any:
            yield self

    async def wait() -> Any:
        await awaited
        return asyncio.current_task(loop)

    loop = oxloop.EventLoop()
    awaited = Awaited()
    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.current_task(loop) is None
    if sys.version_info >= (3, 14):
        # Refused since then, by asyncio's `_enter_task`; the task is none the worse for it.
        with pytest.raises(RuntimeError, match="is not the running loop"):
            awaited.callback(awaited)
        assert asyncio.current_task(loop) is None
        loop.call_soon(awaited.callback, awaited)
        loop.run_until_complete(asyncio.wait([task]))
    else:
        awaited.callback(awaited)
    assert task.result() is task
    assert asyncio.current_task(loop) is None
    loop.close()
