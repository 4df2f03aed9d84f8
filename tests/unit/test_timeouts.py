"""A timeout whose deadline has passed and that is rescheduled before it is told."""

import asyncio
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=["asyncio", "oxloop"])
def ns(request: pytest.FixtureRequest) -> Any:
    """The namespace whose timeouts are tested."""
    return asyncio if request.param == "asyncio" else oxloop


async def test_it_is_queued_anew(loop: Loop, ns: Any) -> None:
    order: list[str] = []
    future = loop.create_future()
    with pytest.raises(TimeoutError):
        async with ns.timeout(0) as guard:
            loop.call_soon(order.append, "before")
            loop.call_soon(future.set_result, None)
            guard.reschedule(0)
            guard.reschedule(None)
            guard.reschedule(loop.time() - 1)
            loop.call_soon(order.append, "after")
            try:
                await future
                await loop.create_future()
            except asyncio.CancelledError:
                order.append("cancelled")
                raise
    assert order == ["before", "after", "cancelled"]
    assert future.result() is None


async def test_it_may_be_taken_back(loop: Loop, ns: Any) -> None:
    async with ns.timeout(0) as guard:
        guard.reschedule(-1)
        guard.reschedule(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not guard.expired()
