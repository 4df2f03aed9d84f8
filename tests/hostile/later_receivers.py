"""Receivers, continued: TLS, streams, locks and queues, and the native coroutines in between."""

import asyncio
import gc
import ssl
from functools import cache
from pathlib import Path
from typing import Any

import oxloop
import oxloop._oxloop as native
from receivers import receiver
from world import Quiet, World

_CERTIFICATE = Path(__file__).resolve().parents[1] / "certificates" / "localhost.pem"


def _turns(world: World, count: int = 3) -> None:
    for _ in range(count):
        world.run(asyncio.sleep(0))


# Streams


async def _connected(world: World) -> tuple[Any, Any, Any]:
    """A native reader, its writer, and the plain socket at the other end."""
    ours, peer = world.pair()
    reader, writer = await oxloop.open_connection(sock=ours)
    return reader, writer, peer


@receiver
def reader_connected(world: World) -> Any:
    reader, writer, peer = world.run(_connected(world))
    world.kept.append(writer)
    peer.send(b"some\nlines\n")
    _turns(world)
    return reader


@receiver
def reader_waited_for(world: World) -> Any:
    reader, writer, _ = world.run(_connected(world))
    world.kept += [writer, world.loop.create_task(reader.readexactly(10))]
    _turns(world)
    return reader


@receiver
def reader_at_eof(world: World) -> Any:
    made = oxloop.StreamReader(loop=world.loop)
    made.feed_data(b"rest")
    made.feed_eof()
    return made


@receiver
def reader_failed(world: World) -> Any:
    made = oxloop.StreamReader(loop=world.loop)
    made.set_exception(ValueError())
    return made


@receiver
def writer_connected(world: World) -> Any:
    reader, writer, peer = world.run(_connected(world))
    world.kept.append(reader)
    return writer


@receiver
def writer_backlogged(world: World) -> Any:
    reader, writer, _ = world.run(_connected(world))
    writer.write(b"x" * 4_000_000)
    world.kept += [reader, world.loop.create_task(writer.drain())]
    _turns(world)
    return writer


@receiver
def writer_closed(world: World) -> Any:
    _, writer, _ = world.run(_connected(world))
    writer.close()
    _turns(world)
    return writer


@receiver
def stream_protocol(world: World) -> Any:
    reader, writer, _ = world.run(_connected(world))
    world.kept += [reader, writer]
    return writer._protocol


@receiver
def stream_protocol_of_server(world: World) -> Any:
    async def serve(reader: Any, writer: Any) -> None:
        await reader.read()

    reader = oxloop.StreamReader(loop=world.loop)
    return oxloop.StreamReaderProtocol(reader, serve, loop=world.loop)


@receiver
def client_done(world: World) -> Any:
    """The callback of the task of a connection's handler."""
    made: list[Any] = []

    async def serve(reader: Any, writer: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        made.extend(callback for callback, _ in task._callbacks)  # type: ignore[attr-defined]
        await reader.read()

    async def connect() -> None:
        server = await oxloop.start_server(serve, "127.0.0.1", 0)
        _, writer = await oxloop.open_connection(*server.sockets[0].getsockname())
        world.kept += [server, writer]
        for _ in range(1000):
            if made:
                return
            await asyncio.sleep(0)

    world.run(connect())
    return made[0]


@receiver
def read_coroutine(world: World) -> Any:
    return oxloop.StreamReader(loop=world.loop).read(10)


@receiver
def read_coroutine_waiting(world: World) -> Any:
    async def begin() -> Any:
        made = oxloop.StreamReader(loop=world.loop).readuntil(b"\n")
        made.send(None)
        return made

    return world.run(begin())


@receiver
def drain_coroutine_waiting(world: World) -> Any:
    _, writer, _ = world.run(_connected(world))
    writer.write(b"x" * 4_000_000)

    async def begin() -> Any:
        made = writer.drain()
        made.send(None)
        return made

    return world.run(begin())


# Locks and queues


@receiver
def lock_contended(world: World) -> Any:
    lock = oxloop.Lock()
    world.run(lock.acquire())
    world.kept += [world.loop.create_task(lock.acquire()) for _ in range(3)]
    _turns(world)
    return lock


@receiver
def semaphore_contended(world: World) -> Any:
    semaphore = oxloop.Semaphore(1)
    world.run(semaphore.acquire())
    world.kept += [world.loop.create_task(semaphore.acquire()) for _ in range(3)]
    _turns(world)
    return semaphore


@receiver
def event_waited_for(world: World) -> Any:
    event = oxloop.Event()
    world.kept += [world.loop.create_task(event.wait()) for _ in range(3)]
    _turns(world)
    return event


@receiver
def condition_waited_for(world: World) -> Any:
    condition = oxloop.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    world.kept += [world.loop.create_task(wait()) for _ in range(3)]
    _turns(world)
    return condition


@receiver
def barrier_fresh(world: World) -> Any:
    return native.Barrier(2)


@receiver
def barrier_waited_for(world: World) -> Any:
    barrier = native.Barrier(3)
    world.kept += [world.loop.create_task(barrier.wait()) for _ in range(2)]
    _turns(world)
    return barrier


@receiver
def queue_full(world: World) -> Any:
    queue = oxloop.Queue(1)
    world.kept += [world.loop.create_task(queue.put(number)) for number in range(3)]
    _turns(world)
    return queue


@receiver
def queue_empty(world: World) -> Any:
    queue = oxloop.Queue()
    world.kept += [world.loop.create_task(queue.get()) for _ in range(3)]
    _turns(world)
    return queue


@receiver
def priority_queue(world: World) -> Any:
    queue: Any = oxloop.PriorityQueue()
    for number in (3, 1, 2):
        queue.put_nowait(number)
    return queue


@receiver
def acquire_coroutine_waiting(world: World) -> Any:
    lock = lock_contended(world)

    async def begin() -> Any:
        made = lock.acquire()
        made.send(None)
        return made

    return world.run(begin())


@receiver
def get_coroutine_waiting(world: World) -> Any:
    queue = oxloop.Queue()

    async def begin() -> Any:
        made = queue.get()
        made.send(None)
        return made

    return world.run(begin())


# TLS


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(_CERTIFICATE)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return served, client


async def _tls(world: World) -> Any:
    """A TLS transport whose other end is served by the same loop."""
    served, client = _contexts()
    server = await world.loop.create_server(Quiet, "127.0.0.1", 0, ssl=served)
    address = server.sockets[0].getsockname()
    transport, _ = await world.loop.create_connection(Quiet, *address, ssl=client)
    world.kept.append(server)
    world.at_end(transport.abort)
    return transport


@receiver
def tls_open(world: World) -> Any:
    return world.run(_tls(world))


@receiver
def tls_backlogged(world: World) -> Any:
    made = world.run(_tls(world))
    made.pause_reading()
    made.write(b"x" * 4_000_000)
    return made


@receiver
def tls_closing(world: World) -> Any:
    made = world.run(_tls(world))
    made.write(b"x" * 1000)
    made.close()
    return made


@receiver
def tls_closed(world: World) -> Any:
    made = world.run(_tls(world))
    made.abort()
    _turns(world)
    return made


@receiver
def tls_in_handshake(world: World) -> Any:
    ours, _ = world.pair()
    _, client = _contexts()
    task = world.loop.create_task(
        world.loop.create_connection(Quiet, sock=ours, ssl=client, server_hostname="")
    )
    world.kept.append(task)
    _turns(world)
    found = [item for item in gc.get_objects() if type(item) is native.TlsTransport]
    return found[-1]


# The simulated kernel


@receiver
def simulation(world: World) -> Any:
    return native._Simulation(1, 1000, 0)


@receiver
def simulated_socket(world: World) -> Any:
    return native._Simulation(1, 1000, 0).listen("10.0.0.1", 80, 5)


# What `async with` finds; before 3.14 of classes of their own.


@receiver
def entry_method(world: World) -> Any:
    return vars(oxloop.Lock)["__aenter__"]


@receiver
def bound_entry(world: World) -> Any:
    lock = oxloop.Lock()
    world.kept.append(lock)
    return lock.__aexit__
