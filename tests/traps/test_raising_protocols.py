"""Protocols and factories that raise: reported, the connection ends, the loop goes on."""

import asyncio
import socket
from typing import Any

import pytest
from loops import Factory
from recorder import CALLBACKS, Recorder


def factory_raises(loop_factory: Factory) -> None:
    """Every second connection finds a factory that raises; the others must be served."""
    loop = loop_factory()
    loop.set_exception_handler(lambda *_: None)
    calls = 0

    def factory() -> asyncio.Protocol:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise ValueError("no protocol for you")
        return Recorder()

    async def main() -> None:
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        outcomes = []
        for _ in range(6):
            client = socket.create_connection(address)
            client.setblocking(False)
            client.send(b"x")
            client.shutdown(socket.SHUT_WR)
            try:
                outcomes.append(await loop.sock_recv(client, 1))
            except ConnectionResetError:
                outcomes.append(b"")
            client.close()
        assert outcomes == [b""] * 6, outcomes
        assert calls == 6
        server.close()

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()


def every_callback_raises(loop_factory: Factory) -> None:
    loop = loop_factory()
    for name in CALLBACKS:
        loop.run_until_complete(asyncio.wait_for(one_callback_raises(loop, name), 20))
    loop.close()


async def one_callback_raises(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """The callback `name` raises; afterwards the loop still serves another connection."""
    reports: list[dict[str, Any]] = []
    called = loop.create_future()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    def raising(self: Recorder, *args: Any) -> None:
        if not called.done():
            called.set_result(self)
        raise ValueError(name)

    protocol_class = type("Raising", (Recorder,), {name: raising})
    protocols: list[Any] = []

    def factory() -> Any:
        protocols.append(protocol_class())
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    client = socket.socket()
    # So small that the kernel does not take a large write at once.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.connect(address)
    client.setblocking(False)
    await loop.sock_sendall(client, b"hello")
    while not protocols or not (protocols[0].made.done() or called.done()):
        await asyncio.sleep(0)
    served = protocols[0]
    if name in ("pause_writing", "resume_writing"):
        accepted = served.transport.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        served.transport.write(b"x" * (4 << 20))
        received = 0
        while received < 4 << 20:
            received += len(await loop.sock_recv(client, 1 << 20))
    if name in ("eof_received", "connection_lost"):
        client.shutdown(socket.SHUT_WR)
    await called
    for _ in range(5):
        await asyncio.sleep(0)
    assert any(isinstance(report["exception"], ValueError) for report in reports), name
    if name in ("data_received", "eof_received"):
        assert isinstance(await served.lost, ValueError)
        assert served.events[-1] == "lost:ValueError"
        assert served.transport.is_closing()
    client.close()

    loop.set_exception_handler(lambda *_: None)
    other = socket.create_connection(address)
    while len(protocols) < 2:
        await asyncio.sleep(0)
    other.close()
    if name not in ("connection_lost", "connection_made"):
        await protocols[1].lost
    server.close()
    for protocol in protocols:
        if hasattr(protocol, "transport"):
            protocol.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("scenario", [factory_raises, every_callback_raises])
def test_trap(in_child: Any, scenario: Any) -> None:
    in_child(scenario)
