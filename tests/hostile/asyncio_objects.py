"""Hostile coroutines, awaitables and futures."""

import asyncio
import collections.abc
import types
from collections.abc import Generator
from typing import Any

import oxloop._oxloop as native
from catalogue import Hostile, Planned, PlannedBase, hostile
from world import World, nothing, value

# Coroutines and other awaitables


class _Coroutine(collections.abc.Coroutine[Any, Any, Any]):
    """A coroutine that is none of the interpreter's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.turns = 0

    def send(self, _: object) -> Any:
        self.turns += 1
        if self.turns > 3:
            raise StopIteration(self)
        return None

    def throw(self, *_: object) -> Any:
        raise Planned

    def close(self) -> None: ...

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)


@hostile
class SendRaises(_Coroutine):
    def send(self, _: object) -> Any:
        self.world.mischief()
        raise Planned


@hostile
class SendRaisesBase(_Coroutine):
    def send(self, _: object) -> Any:
        raise PlannedBase


@hostile
class SendInterrupts(_Coroutine):
    def send(self, _: object) -> Any:
        raise KeyboardInterrupt


@hostile
class SendMischief(_Coroutine):
    def send(self, _: object) -> Any:
        self.world.mischief()
        if task := asyncio.current_task(self.world.loop):
            self.world.random.choice([task.cancel, task.uncancel, task.get_stack, nothing])()
        return super().send(None)


@hostile
class SendYieldsAnything(_Coroutine):
    def send(self, _: object) -> Any:
        super().send(None)
        world = self.world
        choices: list[Any] = [None, 1, world.receiver, world.loop, self, ValueError, value]
        choices += [world.loop.create_future(), asyncio.current_task(world.loop)]
        choices += [FutureLike(world), FutureLikeLies(world)]
        chosen = world.random.choice(choices)
        world.random.random() < 0.5 and _block(chosen)
        return chosen


def _block(future: Any) -> None:
    try:
        future._asyncio_future_blocking = True
    except Exception:
        pass


@hostile
class SendReturnsHostile(_Coroutine):
    def send(self, _: object) -> Any:
        import plain_objects

        raise StopIteration(plain_objects.DelMischief(self.world))


@hostile
class ThrowIsSwallowed(_Coroutine):
    def send(self, _: object) -> Any:
        super().send(None)
        return self.world.loop.create_future().__await__().__next__()

    def throw(self, *_: object) -> Any:
        self.world.mischief()
        return super().send(None)


@hostile
class CloseRaises(_Coroutine):
    def close(self) -> None:
        self.world.mischief()
        raise Planned

    def __del__(self) -> None:
        self.close()


@hostile
def FinishedCoroutine(world: World) -> Any:
    made = value()
    made.close()
    return made


@hostile
def CoroutineOfTheReceiver(world: World) -> Any:
    """A coroutine that waits for the receiver and changes it."""

    async def wait() -> Any:
        world.mischief()
        try:
            return await asyncio.wait_for(world.receiver, 0)
        finally:
            world.mischief()

    return _closing(world, wait())


@hostile
def CancelSwallower(world: World) -> Any:
    async def refuse() -> None:
        for _ in range(4):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                world.mischief()

    return _closing(world, refuse())


@hostile
def SelfCanceller(world: World) -> Any:
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel(Hostile(world))  # type: ignore[arg-type]
        task.remove_done_callback(nothing)
        await asyncio.sleep(0)

    return _closing(world, cancel())


@hostile
def LastReferenceOfItself(world: World) -> Any:
    """A coroutine that drops all it can reach, and then itself."""

    async def forget() -> None:
        world.receiver = world.result = None
        world.kept.clear()
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(task.cancel)  # type: ignore[union-attr]
        del task
        await asyncio.get_running_loop().create_future()

    return _closing(world, forget())


@hostile
def OldCoroutine(world: World) -> Any:
    @types.coroutine
    def old() -> Generator[Any, Any, Any]:
        world.mischief()
        try:
            yield world.receiver
            yield None
            yield FutureLike(world)
        except BaseException:
            world.mischief()
            raise
        return world

    made = old()
    world.at_end(made.close)
    return made


@hostile
def AsyncGenerator(world: World) -> Any:
    async def numbers() -> Any:
        try:
            yield 1
        finally:
            world.mischief()
            await asyncio.sleep(0)

    return numbers()


def _closing(world: World, coroutine: Any) -> Any:
    def close() -> None:
        try:
            coroutine.close()
        except RuntimeError:
            pass  # it ignored GeneratorExit

    world.at_end(close)
    return coroutine


@hostile
class AwaitRaises(Hostile):
    def __await__(self) -> Any:
        self.world.mischief()
        raise Planned


@hostile
class AwaitOddAnswer(Hostile):
    def __await__(self) -> Any:
        return 5


@hostile
class AwaitYieldsItself(Hostile):
    _asyncio_future_blocking = True

    def __await__(self) -> Any:
        yield self
        yield self.world.receiver
        return self


# Futures


@hostile
class FutureLike(Hostile):
    """As little of a future as asyncio accepts, and each part of it does something."""

    _asyncio_future_blocking = True

    def get_loop(self) -> Any:
        self.world.mischief()
        return self.world.loop

    def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
        self.world.mischief()
        callback(self)

    def remove_done_callback(self, callback: Any) -> int:
        return 1 << 70

    def result(self) -> Any:
        self.world.mischief()
        return self

    def exception(self) -> Any:
        return self

    def done(self) -> Any:
        self.world.mischief()
        return True

    def cancel(self, msg: Any = None) -> Any:
        self.world.mischief()
        return self

    def cancelled(self) -> Any:
        return False

    def __await__(self) -> Any:
        yield self
        return self


@hostile
class FutureLikeLies(FutureLike):
    """It calls its callbacks twice, with something else, and refuses what it promised."""

    def get_loop(self) -> Any:
        return self

    def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
        self.world.kept.append(callback)
        for argument in (None, self.world.receiver, self):
            try:
                callback(argument)
            except Exception as error:
                self.world.raised.append(error)
        raise Planned

    def result(self) -> Any:
        raise KeyboardInterrupt

    def cancel(self, msg: Any = None) -> Any:
        raise Planned


def _subclass(name: str, base: type, **body: Any) -> None:
    """Enter an object of a Python class that derives from a native one."""

    def make(world: World) -> Any:
        kind = type(name, (base,), {**body, "world": world})
        if issubclass(base, native.Task):
            return kind(world.coroutine(), loop=world.loop)
        return kind(loop=world.loop)

    make.__name__ = name
    hostile(make)


def raise_planned(*_: object, **__: object) -> Any:
    raise Planned


def _mischief(self: Any, *_: object, **__: object) -> Any:
    type(self).world.mischief()
    return self


def _without_init(*_: object, **__: object) -> None: ...


_subclass("FutureWithoutInit", native.Future, __init__=_without_init)
_subclass("TaskWithoutInit", native.Task, __init__=_without_init)
_subclass(
    "FutureThatRaises",
    native.Future,
    add_done_callback=raise_planned,
    result=raise_planned,
    cancel=raise_planned,
    get_loop=raise_planned,
    __del__=raise_planned,
    __repr__=raise_planned,
    __eq__=raise_planned,
    __hash__=raise_planned,
)
_subclass(
    "FutureMischief",
    native.Future,
    add_done_callback=_mischief,
    cancel=_mischief,
    done=_mischief,
    __del__=_mischief,
    __await__=_mischief,
)
_subclass("FutureAttributeLies", native.Future, _asyncio_future_blocking=property(_mischief))
_subclass("TaskMischief", native.Task, cancel=_mischief, __del__=_mischief, done=_mischief)


@hostile
def FutureOfClosedLoop(world: World) -> Any:
    import oxloop

    loop = oxloop.EventLoop()
    made = loop.create_future()
    loop.close()
    return made


@hostile
def ForeignFuture(world: World) -> Any:
    """A future of asyncio's own loop, already done."""
    loop = asyncio.SelectorEventLoop()
    world.at_end(loop.close)
    made = asyncio.Future(loop=loop)
    made.set_result(1)
    return made


@hostile
def TheReceiver(world: World) -> Any:
    return world.receiver


@hostile
def TheLoop(world: World) -> Any:
    return world.loop
