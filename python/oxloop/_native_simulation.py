"""The extension's simulated kernel. A module of its own, so that its stub is checked against it."""

from ._oxloop import (
    _SimSocket,
    _Simulation,
)

__all__ = [
    "_SimSocket",
    "_Simulation",
]
