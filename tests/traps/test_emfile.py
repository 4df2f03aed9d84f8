"""Out of file descriptors while accepting: reported, no busy loop, served when some are freed."""

import asyncio
import os
import resource
import socket
import time
from typing import Any

from loops import Factory

LIMIT = 64
CLIENTS = 10


def accept_without_descriptors(loop_factory: Factory) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    loop = loop_factory()
    reports: list[tuple[float, dict[str, Any]]] = []
    loop.set_exception_handler(lambda _, context: reports.append((time.monotonic(), context)))

    class Greet(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"hello")
            transport.close()

    async def main() -> None:
        server = await loop.create_server(Greet, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = []
        for _ in range(CLIENTS):
            client = socket.socket()
            client.setblocking(False)
            clients.append(client)
        hoard = []
        try:
            while True:
                hoard.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for client in clients:
            client.connect_ex(address)
        cpu, started = time.process_time(), time.monotonic()
        while time.monotonic() - started < 1.5:
            await asyncio.sleep(0.05)
        assert time.process_time() - cpu < 0.7, "the loop spins"
        moments = [when for when, _ in reports]
        pauses = [two - one for one, two in zip(moments, moments[1:], strict=False)]
        bursts = 1 + sum(pause > 0.5 for pause in pauses)
        assert reports and bursts <= 2, pauses
        if loop_factory is not asyncio.SelectorEventLoop:  # asyncio reports once per backlog entry
            assert len(reports) <= 2, f"{len(reports)} reports"
        assert "out of system resource" in reports[0][1]["message"], reports[0]
        assert isinstance(reports[0][1]["exception"], OSError)

        for number in hoard:
            os.close(number)
        async with asyncio.timeout(20):
            for client in clients:
                assert await loop.sock_recv(client, 10) == b"hello"
        for client in clients:
            client.close()
        server.close()

    loop.run_until_complete(main())
    loop.close()


def test_accept_without_descriptors(in_child: Any) -> None:
    in_child(accept_without_descriptors)


def no_descriptors_for_a_loop(loop_factory: Factory) -> None:
    """Making a loop fails with an OSError, and works again when descriptors are there."""
    loop_factory().close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    hoard = []
    try:
        while True:
            hoard.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        loop_factory()
    except OSError:
        pass
    else:
        raise AssertionError("a loop without descriptors")
    for number in hoard:
        os.close(number)
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()


def test_no_descriptors_for_a_loop(in_child: Any) -> None:
    in_child(no_descriptors_for_a_loop)
