"""Hostile objects that fail, lie or call back in what every object can be asked.

Comparison, hash, truth, representation, attributes, class, call, iteration, destructor.
"""

import asyncio
import functools
import gc
import weakref
from collections.abc import Iterator
from typing import Any

from catalogue import Hostile, Planned, PlannedBase, hostile
from world import World, nothing


@hostile
class EqRaises(Hostile):
    def __eq__(self, other: object) -> bool:
        raise Planned

    __hash__ = object.__hash__


@hostile
class EqMischief(Hostile):
    def __eq__(self, other: object) -> bool:
        self.world.mischief()
        return False

    __hash__ = object.__hash__


@hostile
class EqAlways(Hostile):
    def __eq__(self, other: object) -> bool:
        self.world.mischief()
        return True

    __hash__ = object.__hash__


@hostile
class EqOddAnswer(Hostile):
    def __eq__(self, other: object) -> Any:
        return BoolRaises(self.world)

    __hash__ = object.__hash__


@hostile
class OrderRaises(Hostile):
    def __lt__(self, other: object) -> bool:
        raise Planned

    __gt__ = __le__ = __ge__ = __lt__


@hostile
class HashRaises(Hostile):
    def __hash__(self) -> int:
        raise Planned


@hostile
class HashMischief(Hostile):
    def __hash__(self) -> int:
        self.world.mischief()
        return self.world.random.getrandbits(60)


@hostile
class HashEqualsAll(Hostile):
    def __hash__(self) -> int:
        return hash(self.world.loop)

    def __eq__(self, other: object) -> bool:
        self.world.mischief()
        return True


@hostile
class Unhashable(Hostile):
    __hash__ = None  # type: ignore[assignment]


@hostile
class BoolRaises(Hostile):
    def __bool__(self) -> bool:
        raise Planned


@hostile
class BoolMischief(Hostile):
    def __bool__(self) -> bool:
        self.world.mischief()
        return self.world.random.random() < 0.5


@hostile
class BoolOddAnswer(Hostile):
    def __bool__(self) -> Any:
        return "yes"


@hostile
class LengthLies(Hostile):
    def __len__(self) -> int:
        return (1 << 63) - 1

    def __getitem__(self, index: object) -> Any:
        raise IndexError

    def __length_hint__(self) -> int:
        return 1 << 60


@hostile
class ReprRaises(Hostile):
    def __repr__(self) -> str:
        raise Planned

    __str__ = __repr__


@hostile
class ReprMischief(Hostile):
    def __repr__(self) -> str:
        self.world.mischief()
        return "\udcff\0"

    __str__ = __repr__


@hostile
class ReprOddAnswer(Hostile):
    def __repr__(self) -> Any:
        return 7

    __str__ = __repr__


@hostile
class FormatRaises(Hostile):
    def __format__(self, spec: str) -> str:
        raise Planned


@hostile
class GetattributeRaises(Hostile):
    def __getattribute__(self, name: str) -> Any:
        raise Planned(name)


@hostile
class GetattributeRaisesBase(Hostile):
    def __getattribute__(self, name: str) -> Any:
        raise PlannedBase(name)


@hostile
class GetattributeInterrupts(Hostile):
    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(name)


@hostile
class GetattributeMischief(Hostile):
    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "world").mischief()
        return object.__getattribute__(self, name)


@hostile
class HasEverything(Hostile):
    """Every attribute is there, and is the object itself."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self


@hostile
class HasNothing(Hostile):
    """Every attribute is None."""

    def __getattribute__(self, name: str) -> Any:
        return None


@hostile
class EverythingIsNew(Hostile):
    """Every attribute is there once, and something else each time."""

    def __getattr__(self, name: str) -> Any:
        world = self.world
        world.mischief()
        choices = [None, 1, "x", b"y", True, [], world.receiver, type(self)(world), world.loop]
        return world.random.choice(choices)

    def __call__(self, *_: object, **__: object) -> Any:
        return self.__getattr__("")


@hostile
class SetattrRaises(Hostile):
    _asyncio_future_blocking = True

    def __setattr__(self, name: str, value: object) -> None:
        if name == "world":
            return object.__setattr__(self, name, value)
        raise Planned

    def __delattr__(self, name: str) -> None:
        raise Planned


def _claims(name: str, claimed: Any) -> None:
    """Enter an object whose `__class__` is `claimed`."""

    def make(world: World) -> Any:
        body = {"__class__": property(lambda _: claimed), "__call__": lambda *_, **__: None}
        return type(name, (), body)()

    make.__name__ = name
    hostile(make)


_claims("ClaimsFuture", asyncio.Future)
_claims("ClaimsTask", asyncio.Task)
_claims("ClaimsHandle", asyncio.TimerHandle)
_claims("ClaimsLoop", asyncio.SelectorEventLoop)
_claims("ClaimsBytes", bytes)
_claims("ClaimsInt", int)
_claims("ClaimsException", ValueError)
_claims("ClaimsNoClass", 17)


@hostile
class ClassRaises(Hostile):
    @property
    def __class__(self) -> Any:
        raise Planned

    @__class__.setter
    def __class__(self, value: object) -> None:
        raise Planned


@hostile
class ClassMischief(Hostile):
    @property
    def __class__(self) -> Any:
        self.world.mischief()
        return asyncio.Future


class _Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise Planned

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise Planned

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise Planned


@hostile
def HostileMetaclass(world: World) -> Any:
    """A class that answers no question."""
    return _Meta("Hostile", (Hostile,), {})


@hostile
def MetaclassWithoutName(world: World) -> Any:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise Planned(name)

    return Meta("Nameless", (), {"__call__": lambda *_, **__: None})


@hostile
class CallRaises(Hostile):
    def __call__(self, *_: object, **__: object) -> None:
        self.world.mischief()
        raise Planned


@hostile
class CallRaisesBase(Hostile):
    def __call__(self, *_: object, **__: object) -> None:
        raise PlannedBase


@hostile
class CallExits(Hostile):
    def __call__(self, *_: object, **__: object) -> None:
        raise SystemExit(3)


@hostile
class CallMischief(Hostile):
    def __call__(self, *_: object, **__: object) -> Any:
        self.world.mischief()
        self.world.mischief()
        return self


@hostile
class CallReturnsCoroutine(Hostile):
    def __call__(self, *_: object, **__: object) -> Any:
        return self.world.coroutine()


@hostile
class CallKeepsArguments(Hostile):
    def __call__(self, *args: object, **kwargs: object) -> Any:
        self.world.kept.extend(args)
        return args


@hostile
class CallRunsLoop(Hostile):
    """Runs the loop, or another, from within the loop."""

    def __call__(self, *_: object, **__: object) -> Any:
        try:
            self.world.loop.run_until_complete(self.world.coroutine())
        except RuntimeError:
            asyncio.SelectorEventLoop().close()


@hostile
class NotCallable:
    def __init__(self, world: World) -> None: ...


@hostile
class IterRaises(Hostile):
    def __iter__(self) -> Iterator[Any]:
        self.world.mischief()
        raise Planned


@hostile
class IterMischief(Hostile):
    def __iter__(self) -> Iterator[Any]:
        for _ in range(4):
            self.world.mischief()
            yield b"bytes"
        yield self
        raise Planned


@hostile
class IterOddAnswer(Hostile):
    def __iter__(self) -> Any:
        return 5


@hostile
class NextRaises(Hostile):
    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        self.world.mischief()
        raise StopIteration(self)


@hostile
class DelMischief(Hostile):
    def __del__(self) -> None:
        self.world.look()
        self.world.mischief()
        self.world.mischief()


class _BytesOfDel(bytearray):
    def __init__(self, data: bytes, held: Any) -> None:
        super().__init__(data)
        self.held = held


def _holds(name: str, hold: Any) -> None:
    """Enter something without a destructor of its own that holds what has one.

    While it is freed it counts no references, and whoever finds it then and takes one, frees it
    twice.
    """

    def make(world: World) -> Any:
        return hold(DelMischief(world))

    make.__name__ = name
    hostile(make)


_holds("PartialOfDel", lambda held: functools.partial(nothing, held))
_holds("TupleOfDel", lambda held: (held,))
_holds("ListOfDel", lambda held: [held, b"", held])
_holds("DictOfDel", lambda held: {"message": held, held: 1})
_holds("MethodOfDel", lambda held: held.__call__)
_holds("FunctionOfDel", lambda held: lambda *_: held)
_holds("ExceptionOfDel", lambda held: ValueError(held))
_holds("ViewOfDel", lambda held: memoryview(_BytesOfDel(b"held", held)))


@hostile
class DelRaises(Hostile):
    def __del__(self) -> None:
        raise Planned


@hostile
class DelResurrects(Hostile):
    def __del__(self) -> None:
        if len(self.world.kept) < 3:
            self.world.kept.append(self)
        self.world.mischief()


@hostile
class DelCollects(Hostile):
    def __del__(self) -> None:
        gc.collect(1)


@hostile
def WeakCallbackMischief(world: World) -> Any:
    """Something happens when the object is gone."""

    class Referred(Hostile): ...

    made = Referred(world)
    world.kept.append(weakref.ref(made, lambda _: world.mischief()))
    return made


@hostile
def CycleWithReceiver(world: World) -> Any:
    """A cycle through the receiver with a destructor in it."""
    made = DelMischief(world)
    made.receiver = world.receiver  # type: ignore[attr-defined]
    made.own = made  # type: ignore[attr-defined]
    return made


@hostile
class DescriptorMischief(Hostile):
    """Its attributes do something when they are read."""

    @property
    def fileno(self) -> Any:
        self.world.mischief()
        return lambda: 0

    @property
    def get_loop(self) -> Any:
        self.world.mischief()
        return lambda: self.world.loop

    @property
    def _asyncio_future_blocking(self) -> Any:
        self.world.mischief()
        return True

    @property
    def data_received(self) -> Any:
        self.world.mischief()
        return lambda _: None
