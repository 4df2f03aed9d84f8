"""The objects under attack, each in the states that it can be in.

Every class of the extension module has an entry; `missing` names those that have none, so that a
new class cannot be forgotten. A class that can be made without arguments, or on its loop by
`loop=`, needs no entry of its own.
"""

import asyncio
import inspect
import socket
from collections.abc import Callable
from typing import Any

import oxloop
import oxloop._oxloop as native
from world import Quiet, World, nothing, value

RECEIVERS: dict[str, Callable[[World], Any]] = {}

# Classes of the module that are reached through another receiver: what makes them, and how.
_SKIPPED: dict[str, str] = {}


def receiver(make: Callable[[World], Any]) -> Callable[[World], Any]:
    """Enter a receiver; its name is the name of the function."""
    RECEIVERS[make.__name__] = make
    return make


# Futures


@receiver
def future_pending(world: World) -> Any:
    return world.loop.create_future()


@receiver
def future_with_callbacks(world: World) -> Any:
    made = world.loop.create_future()
    for _ in range(3):
        made.add_done_callback(nothing)
    world.kept.append(world.loop.create_task(_await(made)))
    world.run(asyncio.sleep(0))
    return made


async def _await(future: Any) -> Any:
    return await future


@receiver
def future_done(world: World) -> Any:
    made = world.loop.create_future()
    made.set_result(1)
    return made


@receiver
def future_failed(world: World) -> Any:
    made = world.loop.create_future()
    made.set_exception(ValueError())
    return made


@receiver
def future_cancelled(world: World) -> Any:
    made = world.loop.create_future()
    made.cancel("message")
    return made


@receiver
def future_bare(world: World) -> Any:
    return native.Future.__new__(native.Future)


@receiver
def future_of_closed_loop(world: World) -> Any:
    loop = oxloop.EventLoop()
    made = loop.create_future()
    made.add_done_callback(nothing)
    loop.close()
    return made


@receiver
def future_of_foreign_loop(world: World) -> Any:
    loop = asyncio.SelectorEventLoop()
    world.at_end(loop.close)
    return native.Future(loop=loop)


@receiver
def future_subclassed(world: World) -> Any:
    class Subclass(native.Future):  # type: ignore[type-arg]
        pass

    return Subclass(loop=world.loop)


@receiver
def iterator_fresh(world: World) -> Any:
    return world.loop.create_future().__await__()


@receiver
def iterator_waiting(world: World) -> Any:
    made = world.loop.create_future().__await__()
    next(made)
    return made


@receiver
def iterator_exhausted(world: World) -> Any:
    made = world.loop.create_future().__await__()
    made.close()
    return made


# Tasks


@receiver
def task_fresh(world: World) -> Any:
    return world.loop.create_task(value())


@receiver
def task_waiting(world: World) -> Any:
    made = world.loop.create_task(_await(world.loop.create_future()))
    world.run(asyncio.sleep(0))
    return made


@receiver
def task_waiting_for_task(world: World) -> Any:
    made = world.loop.create_task(_await(world.loop.create_task(asyncio.sleep(1000))))
    world.run(asyncio.sleep(0))
    return made


@receiver
def task_done(world: World) -> Any:
    made = world.loop.create_task(value())
    world.run(asyncio.sleep(0))
    world.run(asyncio.sleep(0))
    return made


@receiver
def task_failed(world: World) -> Any:
    async def fail() -> None:
        raise ValueError

    made = world.loop.create_task(fail())
    world.run(asyncio.sleep(0))
    return made


@receiver
def task_cancelled(world: World) -> Any:
    made = world.loop.create_task(value())
    made.cancel()
    world.run(asyncio.sleep(0))
    return made


@receiver
def task_cancelling(world: World) -> Any:
    made = task_waiting(world)
    made.cancel()
    return made


@receiver
def task_bare(world: World) -> Any:
    return native.Task.__new__(native.Task)


@receiver
def task_of_foreign_loop(world: World) -> Any:
    loop = asyncio.SelectorEventLoop()
    world.at_end(loop.close)
    return native.Task(world.coroutine(), loop=loop)


class _Caught:
    """A loop of asyncio's protocol that keeps what it is given to call."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.callbacks: list[Any] = []

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Any, *_: object, context: Any = None) -> Any:
        self.callbacks.append(callback)

    def call_exception_handler(self, context: Any) -> None:
        self.world.reports.append(context)


@receiver
def task_step(world: World) -> Any:
    loop = _Caught(world)
    world.kept.append(native.Task(world.coroutine(), loop=loop))  # type: ignore[arg-type]
    return loop.callbacks[0]


@receiver
def task_wakeup(world: World) -> Any:
    class Awaited:
        _asyncio_future_blocking = True

        def get_loop(self) -> Any:
            return world.loop

        def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
            self.callback = callback

        def result(self) -> None: ...

        def cancel(self, msg: Any = None) -> bool:
            return True

        def __await__(self) -> Any:
            yield self

    awaited = Awaited()

    async def wait() -> None:
        await awaited

    world.kept.append(world.loop.create_task(wait()))
    world.run(asyncio.sleep(0))
    return awaited.callback


# Handles


@receiver
def handle_pending(world: World) -> Any:
    return world.loop.call_soon(nothing, 1, 2, 3, 4, 5)


@receiver
def handle_cancelled(world: World) -> Any:
    made = world.loop.call_soon(nothing)
    made.cancel()
    return made


@receiver
def handle_run(world: World) -> Any:
    made = world.loop.call_soon(nothing)
    world.run(asyncio.sleep(0))
    return made


@receiver
def timer_pending(world: World) -> Any:
    return world.loop.call_later(1000, nothing, 1)


@receiver
def timer_due(world: World) -> Any:
    return world.loop.call_later(0, nothing, 1)


@receiver
def timer_cancelled(world: World) -> Any:
    made = world.loop.call_later(1000, nothing)
    made.cancel()
    return made


# Loops


@receiver
def loop_plain(world: World) -> Any:
    return world.loop


@receiver
def loop_debug(world: World) -> Any:
    world.loop.set_debug(True)
    return world.loop


@receiver
def loop_closed(world: World) -> Any:
    made = oxloop.EventLoop()
    made.close()
    return made


@receiver
def loop_bare(world: World) -> Any:
    return oxloop.EventLoop.__new__(oxloop.EventLoop)


@receiver
def loop_subclassed(world: World) -> Any:
    class Subclass(oxloop.EventLoop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
            return super().call_soon(callback, *args, context=context)

        def time(self) -> float:
            return super().time()

    made = Subclass()
    world.at_end(made.close)
    return made


# Transports and servers


def _stream(world: World, protocol: Any = None) -> tuple[Any, socket.socket]:
    ours, peer = world.pair()

    async def connect() -> Any:
        made = protocol or Quiet()
        return (await world.loop.create_connection(lambda: made, sock=ours))[0]

    return world.run(connect()), peer


@receiver
def stream_open(world: World) -> Any:
    return _stream(world)[0]


@receiver
def stream_with_input(world: World) -> Any:
    made, peer = _stream(world)
    peer.send(b"input")
    return made


@receiver
def stream_backlogged(world: World) -> Any:
    made, _ = _stream(world)
    made.write(b"x" * 4_000_000)
    return made


@receiver
def stream_paused(world: World) -> Any:
    made, peer = _stream(world)
    made.pause_reading()
    peer.send(b"input")
    return made


@receiver
def stream_half_closed(world: World) -> Any:
    made, peer = _stream(world)
    made.write_eof()
    peer.close()
    return made


@receiver
def stream_closing(world: World) -> Any:
    made, _ = _stream(world)
    made.write(b"x" * 4_000_000)
    made.close()
    return made


@receiver
def stream_closed(world: World) -> Any:
    made, _ = _stream(world)
    made.close()
    world.run(asyncio.sleep(0))
    world.run(asyncio.sleep(0))
    return made


@receiver
def stream_of_closed_loop(world: World) -> Any:
    loop = oxloop.EventLoop()
    ours, peer = world.pair()

    async def connect() -> Any:
        return (await loop.create_connection(Quiet, sock=ours))[0]

    made = loop.run_until_complete(connect())
    loop.close()
    return made


@receiver
def datagram_open(world: World) -> Any:
    async def make() -> Any:
        address = ("127.0.0.1", 0)
        kind = asyncio.DatagramProtocol
        return (await world.loop.create_datagram_endpoint(kind, local_addr=address))[0]

    return world.run(make())


@receiver
def datagram_connected(world: World) -> Any:
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.bind(("127.0.0.1", 0))
    world.at_end(ours.close)

    async def make() -> Any:
        address = ours.getsockname()
        kind = asyncio.DatagramProtocol
        return (await world.loop.create_datagram_endpoint(kind, remote_addr=address))[0]

    made = world.run(make())
    ours.sendto(b"input", made.get_extra_info("sockname"))
    return made


@receiver
def datagram_closed(world: World) -> Any:
    made = datagram_open(world)
    made.close()
    world.run(asyncio.sleep(0))
    return made


@receiver
def read_pipe(world: World) -> Any:
    read, write = world.pipe()
    write.write(b"input")

    async def make() -> Any:
        return (await world.loop.connect_read_pipe(Quiet, read))[0]

    return world.run(make())


@receiver
def read_pipe_closed(world: World) -> Any:
    made = read_pipe(world)
    made.close()
    world.run(asyncio.sleep(0))
    return made


@receiver
def write_pipe(world: World) -> Any:
    _, write = world.pipe()

    async def make() -> Any:
        return (await world.loop.connect_write_pipe(Quiet, write))[0]

    return world.run(make())


@receiver
def write_pipe_backlogged(world: World) -> Any:
    made = write_pipe(world)
    made.write(b"x" * 1_000_000)
    return made


@receiver
def server_serving(world: World) -> Any:
    async def make() -> Any:
        return await world.loop.create_server(Quiet, "127.0.0.1", 0)

    made = world.run(make())
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(made.sockets[0].getsockname())
    world.at_end(client.close)
    return made


@receiver
def server_not_started(world: World) -> Any:
    async def make() -> Any:
        return await world.loop.create_server(Quiet, "127.0.0.1", 0, start_serving=False)

    return world.run(make())


@receiver
def server_closed(world: World) -> Any:
    made = server_serving(world)
    made.close()
    return made


@receiver
def listener(world: World) -> Any:
    import gc

    server = server_serving(world)
    world.kept.append(server)
    found = [item for item in gc.get_referents(server) if isinstance(item, native._Listener)]
    assert found, "a serving server shows its listeners to the collector"
    return found[0]


# Socket operations


@receiver
def sock_recv_fresh(world: World) -> Any:
    return world.loop.sock_recv(world.sock(), 10)


@receiver
def sock_recv_waiting(world: World) -> Any:
    made = world.loop.sock_recv(world.pair()[0], 10)
    made.send(None)
    return made


@receiver
def sock_recv_into_waiting(world: World) -> Any:
    made = world.loop.sock_recv_into(world.pair()[0], bytearray(10))
    made.send(None)
    return made


@receiver
def sock_sendall_waiting(world: World) -> Any:
    made = world.loop.sock_sendall(world.pair()[0], b"x" * 4_000_000)
    made.send(None)
    return made


@receiver
def sock_recv_closed(world: World) -> Any:
    made = world.loop.sock_recv(world.sock(), 10)
    made.close()
    return made


def _made_by_default(kind: type) -> Callable[[World], Any] | None:
    """How to make an instance of a class that nobody entered: without arguments."""

    def make(world: World) -> Any:
        async def inside() -> Any:
            return kind()

        return world.run(inside())

    world = World(0)
    try:
        made = make(world)
    except TypeError:
        return None
    finally:
        world.end()
    return make if isinstance(made, kind) else None


def load() -> tuple[dict[str, Callable[[World], Any]], list[str]]:
    """All receivers, and the names of the module's classes that have none."""
    import combinator_receivers  # noqa: F401
    import later_receivers  # noqa: F401

    covered = set()
    for make in RECEIVERS.values():
        world = World(0)
        covered.update(type(make(world)).__mro__)
        world.end()
    missing = []
    for name, kind in vars(native).items():
        if not inspect.isclass(kind) or kind in covered or kind.__module__ == "builtins":
            continue
        if issubclass(kind, BaseException):
            continue
        make = _made_by_default(kind)
        if make is None:
            missing.append(name)
        else:
            RECEIVERS[f"default_{name}"] = make
    return RECEIVERS, [name for name in missing if name not in _SKIPPED]
