"""asyncio's names as `oxloop` offers them, so that `import oxloop as asyncio` is all it takes.

Facts: programs use `from asyncio import *`, names that are in no `__all__` (`asyncio.TaskGroup` on
3.11), submodules as attributes (`asyncio.subprocess.PIPE`) and in imports
(`from asyncio.queues import Queue`); and the list of names changes with every version of Python.

Decision: the running version's own list. A name that oxloop has is oxloop's, any other is
asyncio's very object. Each submodule of asyncio has a twin here, which looks up what is not
oxloop's in the original, when it is asked.

What can still go wrong: a name that somebody replaces in asyncio after the import (a monkey patch)
is replaced there only.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

# Where asyncio's newer versions have what the running one has not.
_HOMES = {
    "QueueShutDown": "queues",
    "TaskGroup": "taskgroups",
    "create_eager_task_factory": "tasks",
    "eager_task_factory": "tasks",
}


class Submodule(ModuleType):
    """The twin of a submodule of asyncio: oxloop's names, and asyncio's for the rest."""

    def __init__(self, name: str, original: ModuleType) -> None:
        super().__init__(name, original.__doc__)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        # Not the dunders: a twin has no file of its own, `inspect` would take it for the original.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._original, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._original)})


def fill(package: dict[str, Any], *more: str) -> tuple[str, ...]:
    """Complete the names of the package `oxloop` with those of asyncio.

    Args:
        package: the globals of the package, with the names that are oxloop's own.
        more: names that are to be exported although the globals do not say so.

    Returns:
        `__all__`: asyncio's names, and oxloop's own.
    """
    own = [name for name in package if not name.startswith("_")]
    names = dict.fromkeys([*asyncio.__all__, *own, *more])
    for name in names:
        if name not in package and hasattr(asyncio, name):
            package[name] = getattr(asyncio, name)
    for name, original in vars(asyncio).copy().items():
        if isinstance(original, ModuleType) and original.__name__ == f"asyncio.{name}":
            twin = Submodule(f"{package['__name__']}.{name}", original)
            package[name] = sys.modules[twin.__name__] = twin
            for public in getattr(original, "__all__", ()):
                if public in package:
                    setattr(twin, public, package[public])
    for name, home in _HOMES.items():
        if name in package and home in package:
            setattr(package[home], name, package[name])
    return tuple(names)
