"""The module that a program calls `asyncio`.

What is measured otherwise is an unmodified program. Benchmarks whose names begin with `namespace`
measure one with a changed line, `import oxloop as asyncio`, against the same program with asyncio's
own primitives on another loop.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any


def namespace(loop: asyncio.AbstractEventLoop | None = None) -> Any:
    """`oxloop` if `loop` (by default the running one) is oxloop's, else asyncio."""
    loop = loop or asyncio.get_running_loop()
    package = type(loop).__module__.partition(".")[0]
    return importlib.import_module("oxloop") if package == "oxloop" else asyncio
