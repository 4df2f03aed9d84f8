"""Receivers, continued: `gather`, `wait`, `shield`, `as_completed`, timeouts, at work."""

import asyncio
import concurrent.futures
import gc
from typing import Any

import oxloop
import oxloop._oxloop as native
from receivers import receiver
from world import World


def _futures(world: World) -> list[Any]:
    """One that is done and two that are not, kept by the world."""
    made = [world.loop.create_future() for _ in range(3)]
    made[0].set_result(1)
    world.kept += made
    return made


@receiver
def gathering(world: World) -> Any:
    async def inside() -> Any:
        return oxloop.gather(*_futures(world), return_exceptions=True)

    return world.run(inside())


@receiver
def shielding(world: World) -> Any:
    async def inside() -> Any:
        return native.shield(_futures(world)[1])

    return world.run(inside())


@receiver
def as_completed(world: World) -> Any:
    async def inside() -> Any:
        return oxloop.as_completed(_futures(world), timeout=1000)

    return world.run(inside())


@receiver
def waiting(world: World) -> Any:
    """What follows the futures of a `wait` that is under way."""
    futures = _futures(world)
    world.kept.append(world.loop.create_task(oxloop.wait(futures, timeout=1000)))
    world.run(asyncio.sleep(0))
    world.run(asyncio.sleep(0))
    return [item for item in gc.get_objects() if type(item) is native._Waiting][-1]


@receiver
def done_callback(world: World) -> Any:
    """What a future shows of one that follows it."""

    async def inside() -> Any:
        futures = _futures(world)
        world.kept.append(oxloop.gather(*futures))
        return futures[1]._callbacks[0][0]

    return world.run(inside())


@receiver
def timeout_new(world: World) -> Any:
    return oxloop.Timeout(None)


@receiver
def timeout_entered(world: World) -> Any:
    made = oxloop.Timeout(None)

    async def inside() -> None:
        async with made:
            made.reschedule(world.loop.time() + 1000)
            await world.loop.create_future()

    world.kept.append(world.loop.create_task(inside()))
    world.run(asyncio.sleep(0))
    return made


def _wrapped(world: World) -> tuple[Any, Any]:
    """A future of `concurrent.futures` and the loop's for it."""

    async def inside() -> Any:
        return oxloop.wrap_future(source)

    source: concurrent.futures.Future[Any] = concurrent.futures.Future()
    wrapped = world.run(inside())
    world.kept.append(wrapped)
    # Kept in a way of its own: who asks it for its exception waits.
    world.at_end(source.cancel)
    return source, wrapped


@receiver
def chain_that_follows(world: World) -> Any:
    return _wrapped(world)[0]._done_callbacks[0]


@receiver
def chain_that_cancels(world: World) -> Any:
    return _wrapped(world)[1]._callbacks[0][0]


@receiver
def chain_that_copies(world: World) -> Any:
    """What the loop is given when the other future is done."""
    source, _ = _wrapped(world)
    source.set_result(1)
    return world.loop._ready[-1]._callback  # type: ignore[attr-defined]


@receiver
def chain_that_begins(world: World) -> Any:
    """What the loop is given for a coroutine of another thread."""
    world.at_end(oxloop.run_coroutine_threadsafe(world.coroutine(), world.loop).cancel)
    return world.loop._ready[-1]._callback  # type: ignore[attr-defined]
