"""Event loops by name, as the command lines of the benchmarks give them.

A name is `asyncio`, `uvloop`, `oxloop`, or `module:factory` for any other loop. The factory is
called without arguments and gives a new event loop. `oxloop-namespace` is oxloop's loop with its
namespace too: scenarios then run as if they said `import oxloop as asyncio`. Everything measured
runs in a process that has imported one loop only, so that no loop sees what another has patched.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from types import ModuleType

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_BUILT_IN = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "oxloop": "oxloop:new_event_loop",
    "oxloop-namespace": "oxloop:new_event_loop",
}


def _parts(name: str) -> tuple[str, str]:
    module, colon, factory = _BUILT_IN.get(name, name).partition(":")
    if not (module and colon and factory):
        known = ", ".join(_BUILT_IN)
        raise ValueError(f"loop {name!r}: neither one of {known} nor module:factory")
    return module, factory


def factory_of(name: str) -> LoopFactory:
    """The loop factory that `name` stands for.

    Raises ValueError for a malformed name, ImportError or AttributeError for an absent one.
    """
    module, attribute = _parts(name)
    factory: LoopFactory = getattr(importlib.import_module(module), attribute)
    return factory


def namespace_of(name: str) -> ModuleType:
    """The module that stands for `asyncio` in the scenarios run on the loop `name`."""
    return importlib.import_module("oxloop") if name == "oxloop-namespace" else asyncio


def is_installed(name: str) -> bool:
    """Whether the module of the loop `name` can be found (it is not imported)."""
    module, _ = _parts(name)
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def version_of(name: str) -> str:
    """The loop's version as `name 1.2.3`; asyncio's is Python's."""
    module, _ = _parts(name)
    if module == "asyncio":
        return f"{name} (Python {platform.python_version()})"
    try:
        return f"{name} {importlib.metadata.version(module.partition('.')[0])}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name} (version unknown)"
