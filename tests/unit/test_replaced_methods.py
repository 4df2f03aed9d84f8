"""A loop's `call_soon` and `time` replaced on the instance and put back, as mocks do.

The loop calls its own methods directly, past Python, unless it knows that they were replaced, in
the class or on the object. When a replacement is taken away again, the one below it counts.
"""

import asyncio
from typing import Any
from unittest import mock

import pytest
from loops import Factory

Loop = asyncio.AbstractEventLoop


def counting(loop_factory: Factory) -> Any:
    """A loop of a subclass that counts in `counts` how often each method is called."""
    plain = loop_factory()
    kind: Any = type(plain)
    plain.close()

    class Counting(kind):
        def __init__(self) -> None:
            self.counts = {"call_soon": 0, "time": 0}
            super().__init__()

        def call_soon(self, *args: Any, **kwargs: Any) -> Any:
            self.counts["call_soon"] += 1
            return super().call_soon(*args, **kwargs)

        def time(self) -> float:
            self.counts["time"] += 1
            return super().time()

    return Counting()


def calls_of(loop: Any, name: str) -> int:
    """How often the override of `name` is called for a coroutine that sleeps."""

    async def main() -> None:
        await asyncio.sleep(0)
        timer = loop.call_later(0, str)
        timer.cancel()
        await asyncio.sleep(0)

    loop.counts[name] = 0
    loop.run_until_complete(main())
    return loop.counts[name]


@pytest.mark.parametrize("name", ["call_soon", "time"])
def test_the_override_of_a_subclass_counts_after_a_mock(loop_factory: Factory, name: str) -> None:
    loop = counting(loop_factory)
    try:
        before = calls_of(loop, name)
        assert before > 0
        with mock.patch.object(loop, name, wraps=getattr(loop, name)) as replaced:
            calls_of(loop, name)
            assert replaced.call_count > 0
        mocked = replaced.call_count
        assert calls_of(loop, name) == before
        assert replaced.call_count == mocked
    finally:
        loop.close()


@pytest.mark.parametrize("name", ["call_soon", "time"])
def test_the_plain_method_counts_after_a_mock(loop: Loop, name: str) -> None:
    with mock.patch.object(loop, name, wraps=getattr(loop, name)) as replaced:
        loop.run_until_complete(asyncio.sleep(0.001))
        assert replaced.call_count > 0
    mocked = replaced.call_count
    assert loop.run_until_complete(asyncio.sleep(0.001, 7)) == 7
    assert replaced.call_count == mocked
