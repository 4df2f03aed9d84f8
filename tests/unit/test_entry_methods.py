"""`__aenter__` and `__aexit__` of native classes: bound, unbound, derived from, and collected."""

import asyncio
import contextlib
import gc
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop
CLASSES = [oxloop.Lock, oxloop.Semaphore, oxloop.Condition, oxloop.TaskGroup, oxloop.Timeout]


def made(kind: Any) -> Any:
    return kind(None) if kind is oxloop.Timeout else kind()


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", ["__aenter__", "__aexit__"])
async def test_a_bound_method_is_like_any_other(loop: Loop, kind: Any, name: str) -> None:
    manager = made(kind)
    bound, unbound = getattr(manager, name), getattr(kind, name)
    assert callable(bound) and isinstance(bound, Callable) and bound.__self__ is manager
    assert bound.__name__ == name and bound.__qualname__.endswith(f".{name}")
    assert bound == getattr(manager, name) and hash(bound) == hash(getattr(manager, name))
    assert bound != getattr(made(kind), name) and bound != 3
    assert f"method {name} of " in repr(bound)
    assert list(inspect.signature(unbound).parameters)[1:] == list(
        inspect.signature(bound).parameters
    )
    with pytest.raises(TypeError):
        bound(1, 2, 3, 4)
    with pytest.raises(TypeError):
        bound(nothing=1)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        bound(*[None] * len(inspect.signature(bound).parameters), nothing=1)
    with pytest.raises(TypeError):
        unbound()
    with pytest.raises(TypeError):
        unbound(object())
    with pytest.raises(TypeError, match="doesn't apply to a 'int' object"):
        inspect.getattr_static(kind, name).__get__(3, int)


async def test_through_the_class_as_exit_stacks_call_them(loop: Loop) -> None:
    lock = oxloop.Lock()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(lock)
        assert lock.locked()
    assert not lock.locked()
    await oxloop.Lock.__aenter__(lock)
    await oxloop.Lock.__aexit__(lock, None, None, None)
    assert not lock.locked()


@pytest.mark.parametrize("kind", CLASSES)
async def test_the_exception_is_given_by_name(loop: Loop, kind: Any) -> None:
    manager = made(kind)
    await manager.__aenter__()
    names = list(inspect.signature(manager.__aexit__).parameters)
    with pytest.raises(TypeError):
        manager.__aexit__(None, **dict.fromkeys(names))
    await manager.__aexit__(None, **dict.fromkeys(names[1:]))


async def test_a_derived_class_extends_them(loop: Loop) -> None:
    log = []

    class Logged(oxloop.Lock):
        async def __aenter__(self) -> None:
            log.append("enter")
            await super().__aenter__()

        async def __aexit__(self, *exc: Any) -> None:
            await super().__aexit__(*exc)
            log.append("exit")

    async with Logged() as nothing:
        assert nothing is None
    assert log == ["enter", "exit"]


async def test_bound_methods_are_used_again_and_kept_apart(loop: Loop) -> None:
    locks = [oxloop.Lock() for _ in range(100)]
    kept = [lock.__aenter__ for lock in locks]
    for lock in locks:
        async with lock:
            assert lock.locked()
    for enter, lock in zip(kept, locks, strict=True):
        assert enter.__self__ is lock and not lock.locked()
        await enter()
        assert lock.locked()


def test_a_cycle_through_a_bound_method_is_collected() -> None:
    lock: Any = oxloop.Lock()
    lock.entry = lock.__aenter__
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None


def test_the_object_lives_as_long_as_its_bound_method() -> None:
    enter = oxloop.Lock().__aenter__
    gc.collect()

    async def main() -> bool:
        await enter()
        return enter.__self__.locked()  # type: ignore[attr-defined,no-any-return]

    assert asyncio.run(main())
