"""The list of hostile objects, by name, and what their classes share.

`hostile` enters a class or a function; called with the world it gives an object that is passed
where something ordinary is expected. The objects are in `plain_objects.py` (comparison, truth,
attributes, destructors), `data_objects.py` (numbers, text, bytes, containers, exceptions),
`asyncio_objects.py` (coroutines, awaitables, futures) and `surroundings.py` (loops, contexts,
files, sockets, protocols).
"""

from collections.abc import Callable
from typing import Any, TypeVar

from world import World

OBJECTS: dict[str, Callable[[World], Any]] = {}

_Factory = TypeVar("_Factory", bound=Callable[[World], Any])


def hostile(factory: _Factory) -> _Factory:
    """Enter `factory` (a class, or a function that makes the object) under its name."""
    assert factory.__name__ not in OBJECTS
    OBJECTS[factory.__name__] = factory
    return factory


class Hostile:
    """An object that knows its world; harmless by itself, and callable."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, *_: object, **__: object) -> None: ...


class Planned(Exception):
    """What hostile objects raise."""


class PlannedBase(BaseException):
    """What hostile objects raise that no `except Exception` catches."""


def load() -> dict[str, Callable[[World], Any]]:
    """All hostile objects."""
    import asyncio_objects  # noqa: F401
    import data_objects  # noqa: F401
    import plain_objects  # noqa: F401
    import surroundings  # noqa: F401

    return OBJECTS
