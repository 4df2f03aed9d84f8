"""What a forked child does with the loop it inherited must not reach the parent's kernel objects.

The epoll set, the signal pair and the sockets are shared across a fork. A child that closes the
loop, or calls a transport, as finalizers and exit handlers do, would unhook the parent's
descriptors if the loop told the kernel about it.
"""

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

import loops
import pytest
from loops import Factory
from recorder import Recorder, with_socket

only_ours = pytest.mark.parametrize(
    "loop_name", [name for name in loops.names() if name == "oxloop"]
)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def in_fork(child: Callable[[], object]) -> None:
    """Run `child` in a fork that ends without exit handlers; its exceptions are its own."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


async def exchange(address: tuple[str, int]) -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"served")
        received = await reader.readexactly(6)
        writer.close()
        await writer.wait_closed()
    return received


def the_child_closes_the_loop(loop_factory: Factory) -> None:
    loop = loop_factory()
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    assert loop.run_until_complete(exchange(address)) == b"served"
    in_fork(loop.close)
    assert loop.run_until_complete(exchange(address)) == b"served"
    server.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


class Buffered(Recorder, asyncio.BufferedProtocol):
    """Receives into a buffer of its own."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(100)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


async def next_byte(protocol: Recorder) -> bytes:
    async with asyncio.timeout(10):
        return await protocol.wait_received(1)


def the_child_calls_a_transport(loop_factory: Factory) -> None:
    calls: tuple[Callable[[asyncio.Transport], object], ...] = (
        lambda transport: transport.pause_reading(),
        lambda transport: transport.close(),
        lambda transport: transport.abort(),
    )
    for call, kind in itertools.product(calls, (Recorder, Buffered)):
        loop = loop_factory()
        transport, protocol, peer = loop.run_until_complete(with_socket(kind))
        in_fork(lambda call=call, transport=transport: call(transport))
        peer.send(b"x")
        assert loop.run_until_complete(next_byte(protocol)) == b"x"
        transport.close()
        loop.run_until_complete(protocol.lost)
        peer.close()
        loop.close()


def test_the_child_closes_the_loop(in_child: Any) -> None:
    in_child(the_child_closes_the_loop)


@only_ours
def test_the_child_calls_a_transport(in_child: Any) -> None:
    """On oxloop only: asyncio's child takes the descriptor out of the shared epoll set."""
    in_child(the_child_calls_a_transport)
