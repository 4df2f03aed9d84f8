"""Which methods are called, with which ordinary arguments around the hostile one.

The methods and their parameters are read from the classes themselves (`inspect.signature`), so
that a new method is attacked the day it appears. The value of an ordinary argument goes by the
name of its parameter. Attributes are calls too: reading, setting and deleting one.
"""

import asyncio
import inspect
import socket
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from world import Quiet, World, nothing

# Not called: their subject is the interpreter or other processes, or they only name the class.
_NOT_CALLED = {
    "__class__", "__dict__", "__doc__", "__init_subclass__", "__module__", "__new__",
    "__subclasshook__", "__weakref__", "__getattribute__", "__sizeof__", "__slots__",
    "__abstractmethods__", "__annotations__", "__parameters__", "__orig_bases__",
    "__static_attributes__", "__firstlineno__", "_is_protocol", "_abc_impl",
    "__class_getitem__", "__reduce__", "__reduce_ex__", "__getstate__", "__dir__",
    "__annotate__", "__annotate_func__", "__annotations_cache__",
    # They start processes, or run until somebody stops them (`run` drives the loop anyway).
    "subprocess_exec", "subprocess_shell", "_make_subprocess_transport",
    "serve_forever",
    # For the child of a fork: from then on the loop is none.
    "_disown",
}  # fmt: skip

# The parameters of methods that may not tell them.
_UNTOLD = {
    "__setattr__": ("name", "value"),
    "__delattr__": ("name",),
    "__aenter__": (),
    "__aexit__": ("type", "exc", "tb"),
}

# What is passed after all that a method takes.
_TOO_MANY = ("one", "too", "many")


def _address(_: World) -> Any:
    return ("127.0.0.1", 9)


def _buffer(_: World) -> Any:
    return bytearray(64)


def _task(world: World) -> Any:
    return world.loop.create_task(world.coroutine())


# The ordinary value of a parameter, by its name.
_VALUES: dict[str, Callable[[World], Any]] = {
    "addr": lambda _: None,
    "address": _address,
    "agen": lambda _: _agen(),
    "all_errors": lambda _: False,
    "args": lambda _: 1,
    "backlog": lambda _: 5,
    "buf": _buffer,
    "bufsize": lambda _: 64,
    "callback": lambda _: nothing,
    "callback_msg": lambda _: "message",
    "context": lambda _: None,
    "coro": lambda world: world.coroutine(),
    "count": lambda _: 3,
    "data": lambda _: b"data",
    "default": lambda _: None,
    "delay": lambda _: 0,
    "enabled": lambda _: False,
    "event": lambda _: "event",
    "exc": lambda _: None,
    "exception": lambda _: ValueError(),
    "executor": lambda _: None,
    "family": lambda _: socket.AF_INET,
    "fd": lambda world: world.sock(),
    "file": lambda _: None,
    "flags": lambda _: 0,
    "fn": lambda _: nothing,
    "func": lambda _: nothing,
    "future": _task,
    "handler": lambda _: nothing,
    "factory": lambda _: None,
    "high": lambda _: 10,
    "host": lambda _: "127.0.0.1",
    "item": lambda _: int,
    "limit": lambda _: 3,
    "list_of_data": lambda _: [b"one", b"two"],
    "local_addr": lambda _: None,
    "loop": lambda world: world.loop,
    "low": lambda _: 1,
    "message": lambda _: "message",
    "msg": lambda _: None,
    "n": lambda _: 5,
    "name": lambda _: "name",
    "nbytes": lambda _: 5,
    "path": lambda _: "\0oxloop-hostile",
    "pipe": lambda world: world.pipe()[0],
    "port": lambda _: 9,
    "proto": lambda _: 0,
    "protocol": lambda _: Quiet(),
    "protocol_factory": lambda _: Quiet,
    "result": lambda _: 1,
    "separator": lambda _: b"\n",
    "server": lambda _: None,
    "sig": lambda _: 10,
    "sock": lambda world: world.sock(),
    "sockaddr": _address,
    "ssl": lambda _: None,
    "sslcontext": lambda _: None,
    "tb": lambda _: None,
    "timeout": lambda _: 0.001,
    "transport": lambda world: world.receiver,
    "type": lambda _: ValueError,
    "val": lambda _: None,
    "value": lambda _: None,
    "waiter": lambda _: None,
    "when": lambda _: 0,
}


async def _agen() -> Any:
    yield 1


# The name of a class, how something of it is used ("call", "get", "set", "delete"), and its name.
Use = tuple[str, str, str]

# What has been carried out in this process.
DONE: set[Use] = set()


def attacked(kind: type) -> type:
    """The class of oxloop's that a receiver's class is or derives from."""
    return next((base for base in kind.__mro__ if base.__module__.startswith("oxloop")), kind)


def methods_of(kind: type) -> list[str]:
    """The methods and attributes of a class that not every object has."""
    found = [name for name in sorted(dir(kind)) if name not in _NOT_CALLED]
    return [n for n in found if getattr(kind, n, None) is not getattr(object, n, calls_of)]


@dataclass(frozen=True)
class Call:
    """One way to use a receiver: a method, or an attribute, and where the hostile object goes."""

    name: str
    how: str  # "call", "get", "set" or "delete"
    positional: tuple[str, ...] = ()
    # Index of the positional argument, or the name of the keyword argument; None: no place.
    place: int | str | None = None

    def __str__(self) -> str:
        place = "" if self.place is None else f"@{self.place}"
        return f"{self.how} {self.name}{place}"

    @property
    def is_proper(self) -> bool:
        """Whether it gets into the method: it has no more arguments than that takes."""
        return self.positional[-len(_TOO_MANY) :] != _TOO_MANY

    def use_of(self, kind: type) -> Use:
        """What of which class it uses."""
        return attacked(kind).__name__, self.how, self.name

    @property
    def is_attack(self) -> bool:
        """Whether there is a place for the hostile object."""
        return self.place is not None or self.how == "set"

    def do(self, receiver: Any, box: list[Any], world: World) -> Any:
        """Carry it out with what is in `box`; whatever comes out of it comes out of here."""
        if self.how == "call":
            return self._call(receiver, box, world)
        DONE.add(self.use_of(type(receiver)))
        if self.how == "get":
            return getattr(receiver, self.name)
        if self.how == "set":
            return setattr(receiver, self.name, box.pop())
        return delattr(receiver, self.name)

    def _call(self, receiver: Any, box: list[Any], world: World) -> Any:
        arguments = [_value(name, world) for name in self.positional]
        named = {}
        if isinstance(self.place, int):
            arguments[self.place] = box.pop()
        elif self.place is not None:
            named[self.place] = box.pop()
        if self.is_proper:
            DONE.add(self.use_of(type(receiver)))
        return getattr(receiver, self.name)(*arguments, **named)


def _value(parameter: str, world: World) -> Any:
    make = _VALUES.get(parameter.lstrip("_"))
    return make(world) if make else None


def _parameters(kind: type, name: str) -> tuple[list[str], list[str]]:
    """The names of a method's positional and keyword-only parameters, as far as it tells."""
    if name in _UNTOLD:
        return list(_UNTOLD[name]), []
    try:
        signature = inspect.signature(getattr(kind, name))
    except (TypeError, ValueError):
        return ["value", "other"], []
    positional, named = [], []
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            positional.append(parameter.name)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            named.append(parameter.name)
        else:
            named.append("unknown")
    return positional, named


def calls_of(kind: type) -> list[Call]:
    """All calls of a class, in a fixed order."""
    # Weakly: a hostile class holds its world.
    if kind not in _CALLS:
        _CALLS[kind] = _find_calls(kind)
    return _CALLS[kind]


_CALLS: weakref.WeakKeyDictionary[type, list[Call]] = weakref.WeakKeyDictionary()


def _find_calls(kind: type) -> list[Call]:
    found: list[Call] = []
    for name in methods_of(kind):
        attribute = inspect.getattr_static(kind, name)
        if isinstance(attribute, property) or inspect.isdatadescriptor(attribute):
            found += [Call(name, "get"), Call(name, "set"), Call(name, "delete")]
        elif callable(attribute) or callable(getattr(kind, name)):
            positional, named = _parameters(kind, name)
            found.append(Call(name, "call", tuple(positional)))
            found.append(Call(name, "call", (*positional, *_TOO_MANY), len(positional)))
            found += [Call(name, "call", tuple(positional), i) for i in range(len(positional))]
            found += [Call(name, "call", tuple(positional), keyword) for keyword in named]
    if not issubclass(kind, asyncio.AbstractEventLoop):
        found.append(Call("unknown", "set"))
    return found
