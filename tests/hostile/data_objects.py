"""Hostile numbers, texts, bytes, containers and exceptions."""

import array
import asyncio
import mmap
import sys
from collections.abc import Iterator
from typing import Any

from catalogue import Hostile, Planned, PlannedBase, hostile
from world import World

# Numbers


@hostile
class IndexRaises(Hostile):
    def __index__(self) -> int:
        raise Planned

    __int__ = __float__ = __index__  # type: ignore[assignment]


@hostile
class IndexMischief(Hostile):
    def __index__(self) -> int:
        self.world.mischief()
        return 3

    def __float__(self) -> float:
        self.world.mischief()
        return 0.0


@hostile
class IndexOddAnswer(Hostile):
    def __index__(self) -> Any:
        return "three"

    def __float__(self) -> Any:
        return "3.0"


@hostile
class IntSubclass(int):
    """An int that is something else each time it is asked."""

    world: World

    def __new__(cls, world: World) -> "IntSubclass":
        made = super().__new__(cls, 3)
        made.world = world
        return made

    def __index__(self) -> int:
        self.world.mischief()
        return 1 << 40

    def __eq__(self, other: object) -> bool:
        self.world.mischief()
        return True

    def __hash__(self) -> int:
        return 0

    __int__ = __float__ = __index__  # type: ignore[assignment]


@hostile
class FloatSubclass(float):
    def __new__(cls, world: World) -> "FloatSubclass":
        return super().__new__(cls, 0.0)

    def __float__(self) -> float:
        raise Planned

    def __add__(self, other: object) -> Any:
        raise Planned

    __radd__ = __lt__ = __gt__ = __add__  # type: ignore[assignment]


def _value(name: str, given: Any) -> None:
    """Enter a plain value that is out of place."""

    def make(world: World) -> Any:
        return given

    make.__name__ = name
    hostile(make)


_value("HugeInt", 1 << 70)
_value("MinusHugeInt", -(1 << 70))
_value("LargestInt", (1 << 63) - 1)
_value("MinusOne", -1)
_value("NotANumber", float("nan"))
_value("Infinity", float("inf"))
_value("MinusInfinity", float("-inf"))
_value("HugeFloat", sys.float_info.max)
_value("Nothing", None)
_value("NotImplementedValue", NotImplemented)
_value("Dots", ...)

# Text


@hostile
class StrSubclass(str):
    world: World

    def __new__(cls, world: World) -> "StrSubclass":
        made = super().__new__(cls, "127.0.0.1")
        made.world = world
        return made

    def __eq__(self, other: object) -> bool:
        self.world.mischief()
        return True

    def __hash__(self) -> int:
        self.world.mischief()
        return 1

    def __str__(self) -> Any:
        return 1


_value("Surrogate", "\udc80")
_value("NulInside", "127.0.0.1\0x")
_value("EmptyText", "")

# Bytes


@hostile
class BytesSubclass(bytes):
    world: World

    def __new__(cls, world: World) -> "BytesSubclass":
        made = super().__new__(cls, b"hostile")
        made.world = world
        return made

    def __len__(self) -> int:
        self.world.mischief()
        return 1 << 40

    def __bytes__(self) -> Any:
        raise Planned

    def __getitem__(self, index: Any) -> Any:
        raise Planned

    __iter__ = __eq__ = __bool__ = __bytes__  # type: ignore[assignment]
    __hash__ = bytes.__hash__


@hostile
class BytearraySubclass(bytearray):
    def __init__(self, world: World) -> None:
        super().__init__(b"hostile" * 100)
        self.world = world

    def __len__(self) -> int:
        self.clear()
        return 1 << 40

    def __bool__(self) -> bool:
        self.world.mischief()
        return True


@hostile
def ShrinkingBytearray(world: World) -> Any:
    """A bytearray that somebody else empties and fills while it is in use."""
    made = bytearray(b"x" * 70_000)

    def change() -> None:
        try:
            made.clear()
            made.extend(b"y" * 10)
        except BufferError:
            pass
        if world.random.random() < 0.9 and not world.loop.is_closed():
            world.loop.call_soon(change)

    world.loop.call_soon(change)
    return made


@hostile
def ReleasedView(world: World) -> Any:
    made = memoryview(bytearray(b"hostile"))
    made.release()
    return made


@hostile
def LooseView(world: World) -> Any:
    return memoryview(bytearray(b"hostile" * 10))[::3]


@hostile
def BackwardView(world: World) -> Any:
    return memoryview(b"hostile")[::-1]


@hostile
def WideView(world: World) -> Any:
    return memoryview(array.array("d", [1.0, 2.0, 3.0]))


@hostile
def DeepView(world: World) -> Any:
    return memoryview(bytes(24)).cast("B", [2, 3, 4])


@hostile
def EmptyView(world: World) -> Any:
    return memoryview(b"")


@hostile
def ClosedMap(world: World) -> Any:
    made = mmap.mmap(-1, 100)
    made.close()
    return made


@hostile
def LargeBytes(world: World) -> Any:
    return b"l" * 3_000_000


@hostile
class BufferRaises(Hostile):
    def __buffer__(self, flags: int) -> memoryview:
        raise Planned

    def __bytes__(self) -> bytes:
        raise Planned


@hostile
class BufferMischief(Hostile):
    """A buffer that does something when it is taken and when it is given back."""

    def __buffer__(self, flags: int) -> memoryview:
        self.world.mischief()
        return memoryview(bytearray(b"mischief"))

    def __release_buffer__(self, view: memoryview) -> None:
        self.world.mischief()
        raise Planned


@hostile
class BufferOddAnswer(Hostile):
    def __buffer__(self, flags: int) -> Any:
        return b"no view"


# Containers


@hostile
class ListSubclass(list):  # type: ignore[type-arg]
    """A list that changes while it is read."""

    def __init__(self, world: World) -> None:
        super().__init__([b"one", b"two", b"three"])
        self.world = world

    def __len__(self) -> int:
        return 1 << 40

    def __iter__(self) -> Iterator[Any]:
        for item in list.__iter__(self):
            list.append(self, item) if len(list(list.__iter__(self))) < 9 else list.clear(self)
            self.world.mischief()
            yield item


@hostile
def ListOfHostiles(world: World) -> Any:
    return [b"one", BytesSubclass(world), BufferMischief(world), LooseView(world), None, 5]


@hostile
def ListInItself(world: World) -> Any:
    made: list[Any] = []
    made.append(made)
    return made


@hostile
class TupleSubclass(tuple):  # type: ignore[type-arg]
    def __new__(cls, world: World) -> "TupleSubclass":
        return super().__new__(cls, ("127.0.0.1", 9))

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: Any) -> Any:
        raise Planned

    def __iter__(self) -> Iterator[Any]:
        raise Planned


@hostile
def AddressOfHostiles(world: World) -> Any:
    return (StrSubclass(world), IndexMischief(world))


@hostile
class DictSubclass(dict):  # type: ignore[type-arg]
    """A dict of reports or of extra information that answers otherwise than it stores."""

    def __init__(self, world: World) -> None:
        super().__init__(message=Hostile(world), peername=1, exception="no exception", task=1)
        self.world = world

    def __getitem__(self, key: object) -> Any:
        self.world.mischief()
        raise Planned

    def get(self, *_: object) -> Any:
        self.world.mischief()
        return self

    __contains__ = __getitem__  # type: ignore[assignment]

    def keys(self) -> Any:
        raise Planned

    items = values = __iter__ = keys


@hostile
def DictOfHostiles(world: World) -> Any:
    """Keys that cannot be sorted, values that cannot be shown."""
    import plain_objects

    return {
        "message": plain_objects.BoolRaises(world),
        1: plain_objects.ReprRaises(world),
        plain_objects.EqMischief(world): 2,
        "exception": Planned(),
        "source_traceback": 7,
        "handle": plain_objects.GetattributeMischief(world),
    }


# Exceptions


@hostile
class StrangeException(Exception):
    """Its text, traceback and context fail."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __str__(self) -> str:
        raise Planned

    __repr__ = __str__

    def __setattr__(self, name: str, value: object) -> None:
        if name != "world":
            raise Planned
        object.__setattr__(self, name, value)

    @property
    def __traceback__(self) -> Any:
        raise Planned

    @property
    def __class__(self) -> Any:
        self.world.mischief()
        return OSError


@hostile
def ExceptionClassThatRaises(world: World) -> Any:
    class Odd(Exception):
        def __init__(self) -> None:
            world.mischief()
            raise Planned

    return Odd


@hostile
def ExceptionClassThatLies(world: World) -> Any:
    class Odd(Exception):
        def __new__(cls) -> Any:
            world.mischief()
            return 7

    return Odd


@hostile
def ExceptionClassThatNeedsArguments(world: World) -> Any:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None: ...

    return Odd


@hostile
def ExceptionMischief(world: World) -> Any:
    class Odd(Exception):
        def __init__(self) -> None:
            world.mischief()
            world.mischief()

        def __del__(self) -> None:
            world.mischief()

    return Odd


@hostile
def OddErrno(world: World) -> Any:
    error = OSError()
    error.errno = Hostile(world)  # type: ignore[assignment]
    return error


_value("StopIterationClass", StopIteration)
_value("GeneratorExitClass", GeneratorExit)
_value("KeyboardInterruptClass", KeyboardInterrupt)


@hostile
def StopIterationInstance(world: World) -> Any:
    return StopIteration(Hostile(world))


@hostile
def CancelledSubclass(world: World) -> Any:
    class Odd(asyncio.CancelledError):
        def __init__(self, *args: Any) -> None:
            world.mischief()

    return Odd()


@hostile
def BaseGroup(world: World) -> Any:
    return BaseExceptionGroup("group", [PlannedBase(), KeyboardInterrupt()])


@hostile
def ExceptionInItself(world: World) -> Any:
    error = Planned()
    error.__context__ = other = Planned()
    other.__context__ = error
    return error
