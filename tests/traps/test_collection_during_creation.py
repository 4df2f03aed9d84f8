"""The collector starts while an object is being made: on Python 3.11 any allocation may start it.

An instance that has a `__dict__` is known to the collector before its own contents are there.
"""

import gc
from typing import Any

from loops import Factory


def futures_are_made_with_the_collector_at_work(factory: Factory) -> None:
    loop = factory()
    gc.set_threshold(1)
    futures = [loop.create_future() for _ in range(1000)]
    for future in futures:
        future.cancel()
    loop.close()


def test_trap(in_child: Any) -> None:
    in_child(futures_are_made_with_the_collector_at_work)
