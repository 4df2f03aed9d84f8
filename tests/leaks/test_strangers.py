"""Cancelled connections whose descriptor numbers another thread takes over at once.

While connections are begun, cancelled and closed, a second thread opens and closes sockets all the
time, and so gets their numbers. Nothing of the loop's may reach these strangers: no byte is read
from them or written to them, and none of their numbers is closed behind their back (which closing
them would report as EBADF).
"""

import asyncio
import socket
import threading
from typing import Any

import pytest
from holdings import Holdings
from loops import Factory

AT_ONCE = 10
WORD = b"the stranger's own"


class Strangers(threading.Thread):
    """Opens pairs of sockets, as many as there are numbers free, and looks after them."""

    def __init__(self) -> None:
        super().__init__(name="strangers")
        self.stopping = threading.Event()
        self.pairs = 0
        self.numbers: set[int] = set()
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.one_round()
            except Exception as error:
                self.failures.append(repr(error))
                return

    def one_round(self) -> None:
        pairs = [socket.socketpair() for _ in range(AT_ONCE)]
        for one, other in pairs:
            one.setblocking(False)
            other.setblocking(False)
            one.send(WORD)
        self.stopping.wait(0.0002)
        for one, other in pairs:
            self.numbers |= {one.fileno(), other.fileno()}
            received = other.recv(1000)
            if received != WORD:
                self.failures.append(f"a stranger received {received!r}")
            for end in (one, other):
                try:
                    self.failures.append(f"a stranger received {end.recv(1000)!r}")
                except BlockingIOError:
                    pass
            one.close()
            other.close()
        self.pairs += AT_ONCE


class Talkative(asyncio.Protocol):
    """Writes more than the kernel takes, at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"for the peer" * 20_000)  # type: ignore[attr-defined]


async def sock_connect(loop: Any, address: Any, turns: int) -> None:
    """Cancelled while the kernel connects."""
    sock = socket.socket()
    sock.setblocking(False)
    connecting = loop.create_task(loop.sock_connect(sock, address))
    for _ in range(turns):
        await asyncio.sleep(0)
    connecting.cancel()
    sock.close()
    await asyncio.wait([connecting])
    if not connecting.cancelled():
        connecting.exception()


async def create_connection(loop: Any, address: Any, turns: int) -> None:
    """Cancelled between the transport and its first turn, with much to be sent."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    connecting = loop.create_task(loop.create_connection(Talkative, sock=ours))
    for _ in range(turns):
        await asyncio.sleep(0)
    connecting.cancel()
    if turns % 2:
        peer.close()
    await asyncio.wait([connecting])
    if not connecting.cancelled():
        connecting.result()[0].abort()
    peer.close()
    ours.close()
    await asyncio.sleep(0)


def cancelled_connections(loop_factory: Factory, count: int) -> None:
    before = Holdings.now()
    reports: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        silent = socket.create_server(("127.0.0.1", 0), backlog=0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        addresses = [silent.getsockname(), listening.getsockname()]
        for start in range(0, count, AT_ONCE):
            kinds = []
            for number in range(start, start + AT_ONCE):
                kind = sock_connect if number % 2 else create_connection
                kinds.append(kind(loop, addresses[number % 3 == 0], number % 5))
            await asyncio.gather(*kinds)
            listening.setblocking(False)
            try:
                while True:
                    listening.accept()[0].close()
            except BlockingIOError:
                pass
        for each in (silent, listening, *fillers):
            each.close()

    strangers = Strangers()
    strangers.start()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
    finally:
        strangers.stopping.set()
        strangers.join()
    assert strangers.failures == [], strangers.failures[:5]
    assert reports == [], reports[:5]
    assert Holdings.now() == before
    print(f"{count} cancelled, {strangers.pairs} strangers on {len(strangers.numbers)} numbers")
    assert strangers.pairs > count // 100


@pytest.mark.parametrize("scenario", [cancelled_connections])
def test_strangers(run_long: Any, scenario: Any) -> None:
    run_long(scenario, 2_000, 20_000)
