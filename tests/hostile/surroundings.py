"""Hostile loops, contexts, files, sockets and protocols: what stands around a connection."""

import asyncio
import contextvars
import os
import socket
from typing import Any

from asyncio_objects import raise_planned
from catalogue import Hostile, Planned, PlannedBase, hostile
from world import World

# Loops and contexts


@hostile
class LoopRaises(Hostile):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return raise_planned


@hostile
class LoopMischief(Hostile):
    """A loop that runs callbacks at once and says yes and no as it likes."""

    def get_debug(self) -> Any:
        self.world.mischief()
        return self.world.random.random() < 0.5

    is_running = is_closed = get_debug

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.world.mischief()
        if self.world.random.random() < 0.5:
            callback(*args)
        return self

    call_soon_threadsafe = call_soon

    def call_exception_handler(self, context: Any) -> None:
        self.world.kept.append(context)
        self.world.mischief()

    def create_task(self, *_: object, **__: object) -> Any:
        return self


@hostile
def ForeignLoop(world: World) -> Any:
    made = asyncio.SelectorEventLoop()
    world.at_end(made.close)
    return made


@hostile
def ClosedLoop(world: World) -> Any:
    import oxloop

    made = oxloop.EventLoop()
    made.close()
    return made


@hostile
def LoopWithoutInit(world: World) -> Any:
    import oxloop

    return oxloop.EventLoop.__new__(oxloop.EventLoop)


@hostile
def EnteredContext(world: World) -> Any:
    """A context that is already entered whenever anything runs in it."""
    context = contextvars.copy_context()

    def inside() -> None:
        world.mischief()
        if not (world.loop.is_running() or world.loop.is_closed()):
            world.loop.call_soon(world.loop.stop)
            world.loop.run_forever()

    world.loop.call_soon(context.run, inside)
    return context


@hostile
class ContextLies(Hostile):
    def run(self, *_: object) -> Any:
        self.world.mischief()
        return self

    def copy(self) -> Any:
        return 7


# Files and sockets


@hostile
class FilenoRaises(Hostile):
    def fileno(self) -> int:
        raise Planned


@hostile
class FilenoMischief(Hostile):
    """Another number each time: readable, closed, a directory, none, too large."""

    type = socket.SOCK_STREAM
    family = socket.AF_INET
    proto = 0

    def fileno(self) -> Any:
        self.world.mischief()
        sock = self.world.sock()
        choices = [sock.fileno(), -1, 1 << 31, 1 << 70, "3", None, 999_999]
        return self.world.random.choice(choices)

    def gettimeout(self) -> Any:
        return 0

    def getsockname(self) -> Any:
        raise OSError

    getpeername = getsockname

    def close(self) -> None: ...

    def setblocking(self, flag: bool) -> None: ...


@hostile
def ClosedSocket(world: World) -> Any:
    made = world.sock()
    made.close()
    return made


@hostile
def BlockingSocket(world: World) -> Any:
    made = world.sock()
    made.setblocking(True)
    return made


@hostile
def DetachedNumber(world: World) -> Any:
    """A descriptor number that is nobody's."""
    number = os.dup(0)
    os.close(number)
    return number


@hostile
def DirectoryNumber(world: World) -> Any:
    """A descriptor that epoll refuses."""
    number = os.open("/", os.O_RDONLY)
    world.at_end(lambda: os.close(number))
    return number


@hostile
def ListeningSocket(world: World) -> Any:
    return world.listening()


@hostile
def SocketThatCloses(world: World) -> Any:
    """It is gone when it is used."""

    class Closing(socket.socket):
        def fileno(self) -> int:
            number = super().fileno()
            if world.random.random() < 0.3:
                self.close()
            return number

        def getpeername(self) -> Any:
            world.mischief()
            raise Planned

        def detach(self) -> int:
            world.mischief()
            return super().detach()

    made = Closing(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    world.at_end(lambda: socket.socket.close(made))
    return made


# Protocols


@hostile
class ProtocolRaises(asyncio.Protocol):
    def __init__(self, world: World) -> None:
        self.world = world

    def connection_made(self, _: object) -> None:
        self.world.mischief()
        raise Planned

    def data_received(self, _: object) -> None:
        raise Planned

    def eof_received(self) -> bool:
        raise Planned

    def connection_lost(self, _: object) -> None:
        raise PlannedBase

    def pause_writing(self) -> None:
        self.world.mischief()
        raise Planned

    resume_writing = pause_writing

    def datagram_received(self, *_: object) -> None:
        raise Planned

    error_received = data_received


@hostile
class ProtocolMischief(asyncio.Protocol):
    """Each callback does something to the transport, or to the receiver."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.transport: Any = None

    def _turn(self, *_: object) -> Any:
        self.world.mischief()
        deeds = ["close", "abort", "pause_reading", "resume_reading", "write_eof", "is_closing"]
        name = self.world.random.choice(deeds)
        try:
            getattr(self.transport, name)()
            self.transport.write(b"again" * self.world.random.choice([1, 100_000]))
        except (AttributeError, RuntimeError, NotImplementedError):
            pass
        return self.world.random.choice([True, False, self])

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._turn()

    def connection_lost(self, _: object) -> None:
        self._turn()
        self.transport = None

    data_received = eof_received = pause_writing = resume_writing = _turn
    datagram_received = error_received = _turn


@hostile
class BufferedRaises(asyncio.BufferedProtocol):
    def __init__(self, world: World) -> None:
        self.world = world

    def get_buffer(self, sizehint: int) -> Any:
        self.world.mischief()
        choices = [bytearray(8), bytearray(), b"read-only", None, memoryview(bytearray(9))[::2]]
        return self.world.random.choice(choices)

    def buffer_updated(self, nbytes: int) -> None:
        self.world.mischief()
        raise Planned

    def eof_received(self) -> Any:
        import plain_objects

        return plain_objects.BoolRaises(self.world)


@hostile
class BufferedShrinks(asyncio.BufferedProtocol):
    """Its buffer is emptied while it is in use."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.buffer = bytearray(100)

    def get_buffer(self, sizehint: int) -> Any:
        self.world.loop.call_soon(self.buffer.clear)
        self.world.mischief()
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.buffer.clear()
        self.buffer.extend(bytes(10))


@hostile
def ProtocolChangesProtocol(world: World) -> Any:
    """A protocol that puts another one into its place in every callback."""

    class Changing(ProtocolMischief):
        def _turn(self, *_: object) -> Any:
            kind = world.random.choice([ProtocolRaises, BufferedRaises, BufferedShrinks])
            self.transport.set_protocol(kind(world))
            return super()._turn()

        data_received = eof_received = pause_writing = resume_writing = _turn

    return Changing(world)
