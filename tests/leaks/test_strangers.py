"""Cancelled connections whose descriptor numbers another thread takes over at once.

Whoever closes a socket of this program, by the loop or by the program itself, hands its number in
the same moment to a second thread, which opens sockets of its own until it has that number; the
loop's thread waits for it. So a number is a stranger's before anything else of ours can happen:
while the cancelled operation still has its turns to go, and its transport its close to finish. At
the end of a batch the strangers are looked at. No byte may have been read from them or written to
them, and their numbers must still be theirs: the same file (`fstat`), which closes without EBADF.
A second close of ours, or a late write, shows in one of these. Besides, the thread opens and closes
sockets all the time, for the numbers that are freed natively.
"""

import asyncio
import os
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from holdings import Holdings
from loops import Factory

AT_ONCE = 10
WORD = b"the stranger's own"
IDLE_S = 0.0002
ANSWER_S = 20


class Pair:
    """Two connected sockets of a stranger, and which files they are."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.files = [os.fstat(end.fileno()) for end in self.ends]
        for end in self.ends:
            end.setblocking(False)
        self.ends[0].send(WORD)

    def numbers(self) -> set[int]:
        return {end.fileno() for end in self.ends}

    def close(self) -> Iterator[str]:
        """Look at it and close it; what is wrong with it."""
        for end, file in zip(self.ends, self.files):
            try:
                if not os.path.samestat(os.fstat(end.fileno()), file):
                    yield f"the number {end.fileno()} is another file's"
            except OSError as error:
                yield f"the number {end.fileno()} was closed: {error}"
        try:
            if (received := self.ends[1].recv(1000)) != WORD:
                yield f"a stranger received {received!r}"
            for end in self.ends:
                try:
                    yield f"a stranger received {end.recv(1000)!r}"
                except BlockingIOError:
                    pass
        except OSError as error:
            yield f"a stranger could not receive: {error}"
        for end in self.ends:
            try:
                end.close()
            except OSError as error:
                yield f"a stranger could not close: {error}"


class Strangers(threading.Thread):
    """Opens sockets, on numbers that it is told or on any that are free, and looks after them."""

    def __init__(self, when_idle: int = AT_ONCE) -> None:
        """`when_idle`: pairs that come and go while nothing is asked, on any numbers."""
        super().__init__(name="strangers", daemon=True)
        self.when_idle = when_idle
        self.requests: queue.SimpleQueue[int | str] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.held: list[Pair] = []
        # What is measured.
        self.idle_pairs = 0
        self.freed = self.taken = self.taken_while_pending = 0
        self.failures: list[str] = []

    # On the loop's thread

    def take(self, number: int) -> bool:
        """A number is free: wait until it is a stranger's. False if somebody else got it."""
        is_theirs = self._ask(number)
        self.freed += 1
        self.taken += is_theirs
        return is_theirs

    def settle(self) -> None:
        """Wait until those who took a number have been looked at and are gone."""
        self._ask("settle")

    def end(self) -> None:
        self.requests.put("end")
        self.join()

    def _ask(self, request: int | str) -> bool:
        self.requests.put(request)
        return self.answers.get(timeout=ANSWER_S)

    # On their own

    def run(self) -> None:
        idle: list[Pair] = []
        while True:
            try:
                request = self.requests.get(timeout=IDLE_S)
            except queue.Empty:
                self._look(idle)
                idle = [Pair() for _ in range(self.when_idle)]
                self.idle_pairs += self.when_idle
                continue
            if request == "end":
                self._look(idle)
                self._look(self.held)
                return
            if isinstance(request, int):
                self.held += idle
                idle = []
                self.answers.put(self._occupy(request))
            else:
                self._look(self.held)
                self.answers.put(True)

    def _occupy(self, number: int) -> bool:
        """Hold this number; the kernel gives the lowest that is free, so some pairs are enough."""
        while not any(number in pair.numbers() for pair in self.held):
            self.held.append(Pair())
            if min(self.held[-1].numbers()) > number:
                return False
        return True

    def _look(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            self.failures.extend(pair.close())
        pairs.clear()


class Watched(socket.socket):
    """A socket that gives its number to a stranger when it is closed, whoever closes it."""

    strangers: Strangers
    operation: "asyncio.Future[Any]"

    def _real_close(self, *args: Any) -> None:
        number = self.fileno()
        super()._real_close(*args)  # type: ignore[misc]
        if number >= 0 and self.strangers.take(number) and not self.operation.done():
            self.strangers.taken_while_pending += 1


class Talkative(asyncio.Protocol):
    """Writes more than the kernel takes, at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"for the peer" * 20_000)  # type: ignore[attr-defined]


async def cancelled(connecting: "asyncio.Task[Any]", turns: int) -> None:
    """Cancel it after some turns."""
    for _ in range(turns):
        await asyncio.sleep(0)
    connecting.cancel()


async def end(connecting: "asyncio.Task[Any]") -> None:
    """Wait for it, and end the connection if there is one after all."""
    await asyncio.wait([connecting])
    if not connecting.cancelled() and not connecting.exception() and connecting.result():
        connecting.result()[0].abort()


async def sock_connect(loop: Any, address: Any, turns: int) -> None:
    """Cancelled, and its socket closed, while the kernel connects."""
    sock = Watched()
    sock.setblocking(False)
    sock.operation = connecting = loop.create_task(loop.sock_connect(sock, address))
    await cancelled(connecting, turns)
    sock.close()
    await end(connecting)


async def adopts(loop: Any, address: Any, turns: int) -> None:
    """Cancelled between the transport and its first turn, with much to be sent."""
    one, peer = socket.socketpair()
    ours = Watched(fileno=one.detach())
    ours.setblocking(False)
    ours.operation = connecting = loop.create_task(loop.create_connection(Talkative, sock=ours))
    await cancelled(connecting, turns)
    # The program's own close, too early: the transport that is there already keeps the number.
    ours.close()
    if turns % 2:
        peer.close()
    await end(connecting)
    peer.close()


async def by_address(loop: Any, address: Any, turns: int) -> None:
    """Cancelled while the loop's own socket connects; its number is freed by the loop."""
    connecting = loop.create_task(loop.create_connection(Talkative, *address))
    await cancelled(connecting, turns)
    await end(connecting)


KINDS = [sock_connect, adopts, sock_connect, adopts, by_address]


async def batch(loop: Any, strangers: Strangers, addresses: list[Any], start: int) -> None:
    """Some of them at a time, then a look at the strangers."""
    kinds = []
    for number in range(start, start + AT_ONCE):
        kind = KINDS[number % len(KINDS)]
        kinds.append(kind(loop, addresses[number // len(KINDS) % 4 == 0], number % 7 % 5))
    await asyncio.gather(*kinds)
    # A transport ends in a turn of its own.
    for _ in range(3):
        await asyncio.sleep(0)
    strangers.settle()


def cancelled_connections(loop_factory: Factory, count: int) -> dict[str, Any]:
    before = Holdings.now()
    reports: list[Any] = []
    strangers = Watched.strangers = Strangers()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        silent = socket.create_server(("127.0.0.1", 0), backlog=0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        listening.setblocking(False)
        addresses = [silent.getsockname(), listening.getsockname()]
        for start in range(0, count, AT_ONCE):
            await batch(loop, strangers, addresses, start)
            try:
                while True:
                    listening.accept()[0].close()
            except BlockingIOError:
                pass
        for each in (silent, listening, *fillers):
            each.close()

    strangers.start()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
    finally:
        strangers.end()
    assert strangers.failures == [], strangers.failures[:5]
    assert reports == [], reports[:5]
    assert Holdings.now() == before
    adopted_or_own = sum(KINDS.count(kind) for kind in (sock_connect, adopts))
    assert strangers.freed == count * adopted_or_own // len(KINDS)
    assert strangers.taken == strangers.freed
    # Most: of those that connect, only some were connected at once.
    assert strangers.taken_while_pending > strangers.freed // 2
    return {
        "cancelled": count,
        "numbers freed": strangers.freed,
        "taken at once by a stranger": strangers.taken,
        "of these while the operation was pending": strangers.taken_while_pending,
        "other strangers": strangers.idle_pairs,
    }


def double_close(loop_factory: Factory, count: int) -> dict[str, Any]:
    """The check itself: whoever closes a number twice is found out.

    No pairs come and go meanwhile: one could get the number between the second close and the look,
    be closed with it, and close it once more when it is somebody else's.
    """
    strangers = Strangers(when_idle=0)
    strangers.start()
    seen = 0
    for _ in range(count):
        sock = socket.socket()
        number = sock.fileno()
        sock.close()
        assert strangers.take(number)
        os.close(number)
        strangers.settle()
        seen += f"the number {number} " in "".join(strangers.failures)
        strangers.failures.clear()
    strangers.end()
    assert seen == count
    return {"closed twice": count, "seen": seen}


@pytest.mark.parametrize(
    ("scenario", "few", "many"), [(cancelled_connections, 2_000, 20_000), (double_close, 20, 200)]
)
def test_strangers(run_long: Any, scenario: Any, few: int, many: int) -> None:
    run_long(scenario, few, many)
