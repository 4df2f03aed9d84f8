"""The event loops under test, by name.

Every behavioural test runs on asyncio's own loop (the oracle) and on oxloop. The
environment variable ``OXLOOP_TESTS_LOOPS`` names another list, separated by commas: each
name is ``asyncio`` or a module that offers ``new_event_loop``. A name that cannot be
imported is an error, never a skipped test.

asyncio's loop class is taken at import, before anything can put another in its place.
"""

import asyncio
import importlib
import os
from collections.abc import Callable

Factory = Callable[[], asyncio.AbstractEventLoop]

_ASYNCIO_LOOP: Factory = asyncio.SelectorEventLoop


def names() -> list[str]:
    """The names of the loops to test, in the order in which they are tested."""
    listed = os.environ.get("OXLOOP_TESTS_LOOPS", "asyncio,oxloop").split(",")
    return [name.strip() for name in listed if name.strip()]


def factory(name: str) -> Factory:
    """The function that makes a loop of this name; ImportError if there is none."""
    if name == "asyncio":
        return _ASYNCIO_LOOP
    return importlib.import_module(name).new_event_loop
