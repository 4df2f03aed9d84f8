"""Shutting down what a loop has started: asynchronous generators and the default executor.

Source of behaviour: CPython `Lib/asyncio/base_events.py`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from typing import Any

from . import _call_graph, _visibility


class Shutdown:
    """The shutdown coroutines of the loop; a mixin of `EventLoop`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _visibility.track(self)
        _call_graph.install()

    async def shutdown_asyncgens(self: Any) -> None:
        """Close every asynchronous generator that is still open.

        Errors are reported to the exception handler, one by one. Generators that start later are
        warned about.
        """
        open_generators = self._take_asyncgens()
        if not open_generators:
            return
        results = await asyncio.gather(
            *[agen.aclose() for agen in open_generators], return_exceptions=True
        )
        for result, agen in zip(results, open_generators):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {agen!r}",
                        "exception": result,
                        "asyncgen": agen,
                    }
                )

    async def shutdown_default_executor(self: Any, timeout: float | None = None) -> None:
        """Wait until the default executor has finished its work, then end its threads.

        `timeout` is in seconds; when it passes, a RuntimeWarning says so and the threads are left
        to themselves.
        """
        executor = self._retire_default_executor()
        if executor is None:
            return
        joined = self.create_future()

        def join() -> None:
            try:
                executor.shutdown(wait=True)
                if not self.is_closed():
                    self.call_soon_threadsafe(_resolve, joined, None)
            except Exception as exc:
                if not self.is_closed() and not joined.cancelled():
                    self.call_soon_threadsafe(_reject, joined, exc)

        thread = threading.Thread(target=join)
        thread.start()
        timer = None
        expired = False

        def expire() -> None:
            nonlocal expired
            if not joined.done():
                expired = True
                joined.set_result(None)

        if timeout is not None:
            timer = self.call_later(timeout, expire)
        try:
            await joined
        except BaseException:
            # Cancelled, say: asyncio has not waited for the threads then since 3.12.
            if sys.version_info < (3, 12):
                thread.join()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if not expired:
            thread.join()
        if expired:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)

    # Warnings about coroutines that were never awaited name them, and are filtered by that name.
    shutdown_asyncgens.__qualname__ = "BaseEventLoop.shutdown_asyncgens"
    shutdown_default_executor.__qualname__ = "BaseEventLoop.shutdown_default_executor"


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    """Set a result unless the future was given up."""
    if not future.done():
        future.set_result(result)


def _reject(future: asyncio.Future[Any], exc: BaseException) -> None:
    """Set an exception unless the future was given up."""
    if not future.done():
        future.set_exception(exc)
