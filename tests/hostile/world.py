"""One small world per combination: a loop, what a hostile object can reach of it, and bystanders.

Everything in a world comes from its seed, so that a combination is repeated by its number. A
hostile object calls `mischief`, which picks what to do next to the receiver or the loop: cancel
it, close it, initialise it again, drop the last reference to it, collect garbage. Mischief within
mischief ends at `DEPTH_MAX`, since endless recursion is the interpreter's subject, not ours.

The bystanders are the work that must not be lost: a callback, a task and a timer that were there
before the hostile object came.
"""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import os
import random
import socket
import weakref
from collections.abc import Callable
from inspect import getattr_static
from typing import Any

import oxloop

DEPTH_MAX = 3


def nothing(*_: object, **__: object) -> None:
    """A callback that does nothing."""


async def value() -> int:
    """A coroutine that takes one turn."""
    await asyncio.sleep(0)
    return 1


class Quiet(asyncio.Protocol):
    """A protocol that does nothing."""


class World:
    """The loop of one combination and everything that stands around it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loop = oxloop.EventLoop()
        # Futures made without a loop take this one, instead of making one that nobody closes.
        asyncio.set_event_loop(self.loop)
        self.receiver: Any = None
        self.result: Any = None
        self.reports: list[dict[str, Any]] = []
        self.raised: list[BaseException] = []
        self.kept: list[Any] = []
        # The call of this combination once more, with an ordinary argument.
        self.again: Callable[[], object] = nothing
        self._depth = 0
        self._closers: list[Callable[[], object]] = []
        self.loop.set_exception_handler(self._report)
        self.happened: list[str] = []

    def _report(self, _: object, context: dict[str, Any]) -> None:
        self.reports.append(context)
        exception = context.get("exception")
        if isinstance(exception, BaseException):
            self.raised.append(exception)

    # What must not be lost

    def place_bystanders(self) -> None:
        """Work that is scheduled before the hostile object comes."""
        loop = self.loop
        loop.call_soon(self.happened.append, "callback")
        self.future = loop.create_future()
        self.task = loop.create_task(self._waiting())
        loop.call_later(0, self.happened.append, "timer")

    async def _waiting(self) -> None:
        await asyncio.sleep(0)
        await self.future
        self.happened.append("task")

    # What can be reached

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two connected, non-blocking sockets; closed with the world."""
        ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
            self._closers.append(end.close)
        return ends

    def sock(self) -> socket.socket:
        """A connected, non-blocking socket with something to read."""
        ours, peer = self.pair()
        peer.send(b"hello")
        return ours

    def listening(self) -> socket.socket:
        """A listening TCP socket."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self._closers.append(sock.close)
        return sock

    def pipe(self) -> tuple[Any, Any]:
        """The two files of a pipe."""
        read, write = os.pipe()
        ends = os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)
        for end in ends:
            self._closers.append(end.close)
        return ends

    def at_end(self, close: Callable[[], object]) -> None:
        """Call `close` when the world ends."""
        self._closers.append(close)

    def coroutine(self) -> Any:
        """A coroutine, closed with the world if nobody runs it."""
        made = value()
        self._closers.append(made.close)
        return made

    def run(self, awaitable: Any) -> Any:
        """Run a coroutine of ours (for receivers) to its end."""
        return self.loop.run_until_complete(awaitable)

    # What hostile objects do

    def mischief(self) -> None:
        """Do something to the receiver or the loop; errors of it are the hostile object's."""
        if self._depth >= DEPTH_MAX:
            return
        self._depth += 1
        try:
            self.random.choice(_DEEDS)(self)
        except (Exception, asyncio.CancelledError) as error:
            self.raised.append(error)
        finally:
            self._depth -= 1

    def look(self) -> None:
        """Look at all that the receiver and the result of the call hold."""
        for target in (self.receiver, self.result):
            for name in _shown(type(target)):
                with contextlib.suppress(Exception):
                    getattr(target, name)
            for name in ("get_protocol", "get_extra_info", "get_loop", "get_coro"):
                with contextlib.suppress(Exception):
                    getattr(type(target), name)(target)

    def end(self) -> None:
        """Close everything, whatever state it is in, and the loop."""
        for close in reversed(self._closers):
            with contextlib.suppress(Exception):
                close()
        for transport in (self.receiver, self.result, *self.kept):
            for name in ("abort", "close"):
                with contextlib.suppress(BaseException):
                    getattr(type(transport), name)(transport)
        self.kept.clear()
        self.receiver = self.result = None
        self._drain()
        with contextlib.suppress(RuntimeError):
            self.loop.close()
        asyncio.set_event_loop(None)
        asyncio._set_running_loop(None)

    def _drain(self) -> None:
        """Let cancelled tasks and closed transports end."""
        for _ in range(2):
            with contextlib.suppress(BaseException):
                if self.loop.is_closed():
                    return
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()


# Weakly: a hostile class holds its world.
_SHOWN: weakref.WeakKeyDictionary[type, list[str]] = weakref.WeakKeyDictionary()


def _shown(kind: type) -> list[str]:
    """The attributes that instances of a class show."""
    if kind not in _SHOWN:
        _SHOWN[kind] = _find_shown(kind)
    return _SHOWN[kind]


def _find_shown(kind: type) -> list[str]:
    return [name for name in dir(kind) if inspect.isdatadescriptor(getattr_static(kind, name))]


def _call(name: str, *args: Any) -> Callable[[World], object]:
    def deed(world: World) -> object:
        target = world.receiver
        if world.result is not None and world.random.random() < 0.5:
            target = world.result
        return getattr(target, name)(*args)

    return deed


def _loop_call(name: str, *args: Any) -> Callable[[World], object]:
    def deed(world: World) -> object:
        return getattr(world.loop, name)(*args)

    return deed


def _forget_all(world: World) -> None:
    world.receiver = world.result = None
    world.kept.clear()


def _init_again(world: World) -> None:
    receiver = world.receiver
    if isinstance(receiver, asyncio.Task):
        receiver.__init__(world.coroutine(), loop=world.loop)  # type: ignore[misc]
    else:
        receiver.__init__(loop=world.loop)


def _remove_everything(world: World) -> None:
    for callback, _ in list(world.receiver._callbacks or ()):
        world.receiver.remove_done_callback(callback)


def _other_thread_drops(world: World) -> None:
    """The last reference goes away on another thread."""
    import threading

    box = [world.receiver, world.result]
    world.receiver = world.result = None
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()


_DEEDS: list[Callable[[World], object]] = [
    _call("cancel"),
    _call("cancel"),
    _call("close"),
    _call("abort"),
    _call("set_result", 1),
    lambda world: world.receiver.set_exception(ValueError()),
    _call("set_exception", ValueError),
    _call("exception"),
    _call("remove_done_callback", nothing),
    _call("add_done_callback", nothing),
    _call("write", b"mischief"),
    _call("writelines", [b"mis", b"chief"]),
    _call("write_eof"),
    _call("sendto", b"mischief"),
    _call("pause_reading"),
    _call("resume_reading"),
    _call("set_write_buffer_limits", 1, 0),
    _call("set_protocol", Quiet()),
    _call("_run"),
    _call("send", None),
    _call("throw", ValueError),
    _call("release"),
    _call("clear"),
    _call("put_nowait", 1),
    _call("get_nowait"),
    _call("feed_data", b"mischief"),
    _call("feed_eof"),
    _loop_call("call_soon", nothing),
    _loop_call("call_soon_threadsafe", nothing),
    _loop_call("call_later", 0, nothing),
    _loop_call("call_later", 1000, nothing),
    _loop_call("stop"),
    lambda world: (world.loop.call_soon(world.loop.stop), world.loop.run_forever()),
    _loop_call("close"),
    _loop_call("set_debug", True),
    _loop_call("set_exception_handler", None),
    lambda world: world.loop.create_task(world.coroutine()),
    lambda world: [world.loop.call_soon(nothing) for _ in range(100)],
    lambda world: asyncio.all_tasks(world.loop),
    lambda world: repr(world.receiver),
    lambda world: contextvars.copy_context().run(world.mischief),
    lambda world: world.kept.append(world.receiver),
    lambda world: gc.collect(1),
    *[lambda world: world.again()] * 8,
    _forget_all,
    _init_again,
    _remove_everything,
    _other_thread_drops,
]
