"""Async generators: hooks set and restored, unfinished ones closed by the loop."""

import asyncio
import gc
import sys
import warnings
from typing import Any

from recorder import next_turns

Loop = asyncio.AbstractEventLoop


def hooks() -> tuple[Any, Any]:
    both = sys.get_asyncgen_hooks()
    return both.firstiter, both.finalizer


def test_hooks_are_set_while_running_and_restored(loop: Loop) -> None:
    def firstiter(generator: Any) -> None: ...

    def finalizer(generator: Any) -> None: ...

    async def main() -> tuple[Any, Any]:
        return hooks()

    before = hooks()
    sys.set_asyncgen_hooks(firstiter, finalizer)
    try:
        inside = loop.run_until_complete(main())
        assert hooks() == (firstiter, finalizer)
    finally:
        sys.set_asyncgen_hooks(*before)
    assert None not in inside
    assert inside != (firstiter, finalizer)


def test_a_dropped_generator_is_closed_by_the_loop(loop: Loop) -> None:
    closed: list[str] = []

    async def generator() -> Any:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def main() -> None:
        async for _ in generator():
            break
        gc.collect()
        await next_turns(5)

    loop.run_until_complete(main())
    assert closed == ["closed"]


def test_shutdown_closes_what_is_open(loop: Loop) -> None:
    closed: list[int] = []
    opened: list[Any] = []

    async def generator(number: int) -> Any:
        try:
            yield number
        finally:
            await asyncio.sleep(0)
            closed.append(number)

    async def main() -> None:
        for number in range(3):
            opened.append(generator(number))
            await opened[-1].__anext__()

    loop.run_until_complete(main())
    assert closed == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert sorted(closed) == [0, 1, 2]


def test_errors_of_closing_are_reported(loop: Loop, errors: list[dict[str, Any]]) -> None:
    async def generator() -> Any:
        try:
            yield 1
        finally:
            raise KeyError("in aclose")

    async def main() -> None:
        await opened.__anext__()

    opened = generator()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    context = errors.pop()
    assert "an error occurred during closing of asynchronous generator" in context["message"]
    assert isinstance(context["exception"], KeyError)
    assert context["asyncgen"] is opened


def test_a_generator_started_after_the_shutdown_warns(loop: Loop) -> None:
    async def generator() -> Any:
        yield 1

    async def main() -> None:
        await loop.shutdown_asyncgens()
        late = generator()
        await late.__anext__()
        await late.aclose()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(main())
    assert any(
        issubclass(warning.category, ResourceWarning)
        and "was scheduled after loop.shutdown_asyncgens() call" in str(warning.message)
        for warning in caught
    )
