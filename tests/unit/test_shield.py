"""`shield` whose outer future is cancelled: what becomes of the inner one's exception."""

import asyncio
import gc
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=[asyncio, oxloop], ids=["asyncio.shield", "oxloop.shield"])
def shield(request: pytest.FixtureRequest) -> Any:
    return request.param.shield


def messages(errors: list[dict[str, Any]]) -> list[str]:
    """The messages reported so far, taken out."""
    found = [report["message"] for report in errors]
    errors.clear()
    return found


async def test_an_exception_that_nobody_hears_of(
    loop: Loop, errors: list[dict[str, Any]], shield: Any
) -> None:
    """Since 3.14 it is reported by asyncio, once for all shields; before, as any other."""
    inner = loop.create_future()
    for outer in [shield(inner), shield(inner)]:
        outer.cancel()
    await asyncio.sleep(0)
    inner.set_exception(KeyError("lost"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del inner, outer
    gc.collect()
    if hasattr(asyncio.tasks, "_log_on_exception"):
        assert messages(errors) == ["KeyError exception in shielded future"]
    else:
        assert messages(errors) == ["Future exception was never retrieved"]


async def test_cancelled_and_done_at_once(
    loop: Loop, errors: list[dict[str, Any]], shield: Any
) -> None:
    """The shield has not let go yet; before 3.14 the exception then counts as retrieved."""
    inner = loop.create_future()
    outer = shield(inner)
    outer.cancel()
    inner.set_exception(KeyError("lost"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del inner, outer
    gc.collect()
    if hasattr(asyncio.tasks, "_log_on_exception"):
        assert messages(errors) == ["Future exception was never retrieved"]
    else:
        assert messages(errors) == []


async def test_resolved_by_hand(loop: Loop, shield: Any) -> None:
    """The inner future is not followed any more."""
    inner = loop.create_future()
    outer = shield(inner)
    outer.set_result(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    inner.set_result(2)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert outer.result() == 1


def test_cancelled_when_the_loop_is_closed(shield: Any) -> None:
    loop = oxloop.EventLoop()

    async def make() -> tuple[Any, Any]:
        inner = loop.create_future()
        return inner, shield(inner)

    _, outer = loop.run_until_complete(make())
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        outer.cancel()
