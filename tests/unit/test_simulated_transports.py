"""Transports and streams on a simulated network that misbehaves, repeated by seeds.

Every payload is a piece of an endless stream of words, each of which says to which connection it
belongs and where in it it is: what is lost, doubled or delivered to a stranger is seen at once.
`Witness` checks the order of a protocol's callbacks while they come:
connection_made (data_received | pause_writing | resume_writing)* eof_received? connection_lost,
where writing may still be paused and resumed after the end of the peer's stream.
"""

import asyncio
import gc
import random
import struct
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import oxloop
import pytest
from oxloop.testing import SimEventLoop

T = TypeVar("T")
Random = random.Random

SEEDS = range(12)
WORD_BYTES = 8

# What a kernel may do at any time, and the highest rates in ten thousand.
HARMLESS = {
    "interrupted": 2000,
    "spurious-readiness": 2000,
    "short-receive": 5000,
    "short-send": 5000,
    "reorder": 10_000,
    "late": 4000,
    "stale": 6000,
    "lost-cancel": 5000,
    "jitter": 10_000,
    "old-kernel": 10_000,
}


def sim() -> SimEventLoop:
    """The running simulated loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimEventLoop)
    return loop


def payload(connection: int, start: int, size: int) -> bytes:
    """The bytes from `start` on of the stream of a connection."""
    first, last = start // WORD_BYTES, (start + size) // WORD_BYTES + 1
    words = b"".join(struct.pack(">II", connection, number) for number in range(first, last))
    skipped = start % WORD_BYTES
    return words[skipped : skipped + size]


def simulate(
    main: Callable[[Random], Coroutine[Any, Any, T]], seed: int, *, harmless: bool = True
) -> tuple[T, int, float]:
    """Run `main` with the faults that the seed draws.

    Returns its result, what stands for all that the kernel did, and the virtual time at the end.
    In the end every descriptor must be closed, no rule of the kernel broken, and nothing reported
    but what an error of the network caused; with harmless faults, nothing at all.
    """
    chance = Random(seed)
    faults = {name: rate for name, rate in HARMLESS.items() if chance.random() < 0.7}
    bytes_per_s = chance.choice([0, 0, 200_000])
    loop = SimEventLoop(seed, faults=faults if harmless else None, bytes_per_s=bytes_per_s)
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, given: reports.append(given.get("exception") or given))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main(chance))
        seen = result, loop.trace(), loop.time()
    gc.collect()
    assert [report for report in reports if harmless or not isinstance(report, OSError)] == []
    assert loop._simulation.take_breaches() == []
    assert loop._simulation.open_count() == 0
    return seen


def repeated(
    main: Callable[[Random], Coroutine[Any, Any, T]], seed: int, *, harmless: bool = True
) -> T:
    """Run `main` twice: both times the same must happen. Returns its result."""
    first, second = (simulate(main, seed, harmless=harmless) for _ in range(2))
    assert first == second
    return first[0]


class Witness(asyncio.Protocol):
    """Checks the order of its callbacks and what it receives, and writes both down."""

    transport: asyncio.Transport

    def __init__(self, chance: Random, connection: int | None = None) -> None:
        self.chance = chance
        self.connection = connection
        self.trace: list[tuple[float, str, int]] = []
        self.received = 0
        self.is_paused = self.has_ended = self.is_choked = False
        self.lost: asyncio.Future[BaseException | None] = sim().create_future()
        self.head = b""

    def note(self, what: str, size: int = 0) -> None:
        self.trace.append((sim().time(), what, size))
        assert (what == "made") == (len(self.trace) == 1), self.trace
        assert not self.lost.done(), self.trace

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.note("made")
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        high = self.chance.choice([0, 1, 100, 5_000, 65_536])
        transport.set_write_buffer_limits(high, self.chance.randint(0, high))

    def data_received(self, data: bytes) -> None:
        self.note("data", len(data))
        assert data and not self.has_ended and not self.is_paused, self.trace
        if self.connection is None:
            # Who it is says the first word.
            self.head += data
            if len(self.head) < WORD_BYTES:
                self.took(data)
                return
            self.connection = struct.unpack(">I", self.head[:4])[0]
            assert self.head == payload(self.connection, 0, len(self.head))
        else:
            assert data == payload(self.connection, self.received, len(data))
        self.took(data)

    def took(self, data: bytes) -> None:
        """What is done with received bytes."""
        self.received += len(data)

    def pause_writing(self) -> None:
        self.note("pause")
        low, high = self.transport.get_write_buffer_limits()
        assert not self.is_choked and self.transport.get_write_buffer_size() > high
        self.is_choked = True

    def resume_writing(self) -> None:
        self.note("resume")
        low, high = self.transport.get_write_buffer_limits()
        assert self.is_choked and self.transport.get_write_buffer_size() <= low
        self.is_choked = False

    def eof_received(self) -> bool:
        self.note("eof")
        assert not self.has_ended and not self.is_paused, self.trace
        self.has_ended = True
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("lost" if exc is None else type(exc).__name__)
        assert exc is None or isinstance(exc, OSError)
        assert self.transport.is_closing()
        self.lost.set_result(exc)


class Echo(Witness):
    """Sends back what it receives, and stops receiving while it cannot send."""

    def took(self, data: bytes) -> None:
        super().took(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        super().eof_received()
        # What is not sent yet is sent first.
        self.transport.close()
        return True


class BufferedEcho(asyncio.BufferedProtocol):
    """An echo that receives into a buffer of its own."""

    def __init__(self, chance: Random) -> None:
        self.inner = Echo(chance)
        self.buffer = bytearray(chance.choice([1, 100, 70_000]))
        self.trace, self.lost = self.inner.trace, self.inner.lost
        self.connection_made = self.inner.connection_made  # type: ignore[method-assign]
        self.connection_lost = self.inner.connection_lost  # type: ignore[method-assign]
        self.pause_writing = self.inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self.inner.resume_writing  # type: ignore[method-assign]
        self.eof_received = self.inner.eof_received  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.inner.data_received(bytes(self.buffer[:nbytes]))


class Serving:
    """A server whose protocols are kept, in the order in which they were made."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.protocols: list[Any] = []
        self.make = make

    def __call__(self) -> Any:
        self.protocols.append(self.make())
        return self.protocols[-1]

    async def start(self) -> asyncio.Server:
        with sim().host("server"):
            return await sim().create_server(self, None, 7)  # type: ignore[no-any-return]

    async def all_lost(self) -> list[list[tuple[float, str, int]]]:
        """Wait until all connections are gone; returns what happened in each."""
        for protocol in self.protocols:
            if protocol.trace:
                await asyncio.wait_for(asyncio.shield(protocol.lost), 3600)
        return [protocol.trace for protocol in self.protocols]


async def connect(chance: Random, number: int, make: Callable[..., Any] = Witness) -> Any:
    """A client of this number on a host of its own."""
    with sim().host(f"client-{number}"):
        _, protocol = await sim().create_connection(lambda: make(chance, number), "server", 7)
    return protocol


async def send(protocol: Witness, size: int) -> None:
    """Send the first bytes of a connection's stream: in pieces, now and then all at once."""
    chance, transport = protocol.chance, protocol.transport
    assert protocol.connection is not None
    sent = 0
    while sent < size and not transport.is_closing():
        piece = min(chance.choice([1, 7, 8, 500, 20_000]), size - sent)
        data = payload(protocol.connection, sent, piece)
        if chance.random() < 0.3:
            cut = chance.randint(0, piece)
            transport.writelines([data[:cut], b"", bytearray(data[cut:])])
        else:
            transport.write(chance.choice([bytes, bytearray, memoryview])(data))
        sent += piece
        if protocol.is_choked or chance.random() < 0.5:
            await asyncio.sleep(chance.choice([0, 0, 0.0001, 0.05]))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_echo_loses_and_doubles_nothing_and_mixes_nothing_up(seed: int) -> None:
    async def main(chance: Random) -> Any:
        serving = Serving(lambda: chance.choice([Echo, BufferedEcho])(chance))
        server = await serving.start()

        async def client(number: int) -> Any:
            size = chance.choice([1, 8, 1000, 60_000])
            protocol = await connect(chance, number)
            await send(protocol, size)
            protocol.transport.write_eof()
            assert await protocol.lost is None
            assert protocol.received == size and protocol.has_ended
            return protocol.trace

        clients = await asyncio.gather(*map(client, range(5)))
        server.close()
        return clients, await serving.all_lost()

    clients, served = repeated(main, seed)
    for trace in [*clients, *served]:
        assert [what for _, what, _ in trace[-2:]] == ["eof", "lost"]


def test_another_seed_is_another_run() -> None:
    async def main(chance: Random) -> None:
        serving = Serving(lambda: Echo(Random(0)))
        server = await serving.start()
        protocol = await connect(Random(0), 1)
        await send(protocol, 30_000)
        protocol.transport.write_eof()
        await protocol.lost
        server.close()
        await serving.all_lost()

    assert len({simulate(main, seed)[1] for seed in range(10)}) > 5


@pytest.mark.parametrize("seed", range(30))
def test_whatever_breaks_callbacks_stay_in_order_and_bytes_true(seed: int) -> None:
    """Resets, hosts that vanish, a kernel without memory: what comes is still a beginning."""

    async def main(chance: Random) -> Any:
        serving = Serving(lambda: Echo(chance))
        server = await serving.start()
        sim().draw_faults(seed)

        async def client(number: int) -> Any:
            try:
                protocol = await connect(chance, number)
            except OSError as error:
                return type(error).__name__
            await send(protocol, 40_000)
            if not protocol.transport.is_closing():
                protocol.transport.write_eof()
            # Something may have vanished without a word.
            await asyncio.wait([protocol.lost], timeout=100)
            protocol.transport.abort()
            reason = await protocol.lost
            assert reason is not None or protocol.received <= 40_000
            return protocol.trace

        clients = await asyncio.gather(*map(client, range(6)))
        sim().calm()
        await asyncio.sleep(5)
        server.close()
        return clients, await serving.all_lost()

    repeated(main, seed, harmless=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_abort_in_mid_stream(seed: int) -> None:
    """The one that aborts hears nothing more but that it is done; the other has a beginning."""

    class Aborting(Witness):
        limit = 0

        def took(self, data: bytes) -> None:
            super().took(data)
            assert not self.transport.is_closing()
            if self.received > self.limit:
                self.transport.abort()
                assert self.transport.get_write_buffer_size() == 0
                self.transport.abort()
                self.transport.write(b"is dropped")

    async def main(chance: Random) -> Any:
        serving = Serving(lambda: Echo(chance))
        server = await serving.start()

        async def client(number: int) -> Any:
            protocol = await connect(chance, number, Aborting)
            protocol.limit = chance.choice([0, 1000, 30_000])
            sending = asyncio.create_task(send(protocol, 200_000))
            assert await protocol.lost is None
            await sending
            assert not protocol.has_ended
            return protocol.trace

        clients = await asyncio.gather(*map(client, range(4)))
        server.close()
        return clients, await serving.all_lost()

    clients, _ = repeated(main, seed)
    for trace in clients:
        assert [what for _, what, _ in trace[-2:]] == ["data", "lost"]


@pytest.mark.parametrize("seed", SEEDS)
def test_pausing_in_a_callback_keeps_everything_back(seed: int) -> None:
    """After pause_reading within data_received nothing comes, not even the end, until resumed."""

    class Hesitant(Witness):
        def took(self, data: bytes) -> None:
            super().took(data)
            self.transport.pause_reading()
            assert not self.transport.is_reading()
            self.is_paused = True
            sim().call_later(self.chance.choice([0, 0.001, 2]), self.go_on)

        def go_on(self) -> None:
            self.is_paused = False
            self.transport.resume_reading()

    async def main(chance: Random) -> Any:
        serving = Serving(lambda: Hesitant(chance))
        server = await serving.start()

        async def client(number: int) -> Any:
            protocol = await connect(chance, number)
            await send(protocol, 30_000)
            protocol.transport.close()
            assert await protocol.lost is None
            return protocol.trace

        clients = await asyncio.gather(*map(client, range(3)))
        server.close()
        served = await serving.all_lost()
        assert [protocol.received for protocol in serving.protocols] == [30_000] * 3
        return clients, served

    repeated(main, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_half_a_connection_still_works(seed: int) -> None:
    """After the client's end of stream the server sends on; the client hears it all."""

    class Patient(Witness):
        def eof_received(self) -> bool:
            super().eof_received()
            assert not self.transport.is_closing()
            self.answering = asyncio.create_task(self.answer())
            return True

        async def answer(self) -> None:
            await asyncio.sleep(self.chance.choice([0, 10]))
            await send(self, 50_000)
            assert not self.transport.is_closing()
            self.transport.write_eof()
            self.transport.close()

    async def main(chance: Random) -> Any:
        serving = Serving(lambda: Patient(chance))
        server = await serving.start()

        async def client(number: int) -> Any:
            protocol = await connect(chance, number)
            await send(protocol, 100)
            assert protocol.transport.can_write_eof()
            protocol.transport.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                protocol.transport.write(b"too late")
            assert await protocol.lost is None
            assert (protocol.received, protocol.has_ended) == (50_000, True)
            return protocol.trace

        clients = await asyncio.gather(*map(client, range(3)))
        server.close()
        return clients, await serving.all_lost()

    repeated(main, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_writing_is_paused_while_nobody_reads(seed: int) -> None:
    class Deaf(Witness):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()
            self.is_paused = True
            sim().call_later(100, self.listen)

        def listen(self) -> None:
            self.is_paused = False
            self.transport.resume_reading()

    async def main(chance: Random) -> Any:
        serving = Serving(lambda: Deaf(chance))
        server = await serving.start()
        protocol = await connect(chance, 1)
        size = 2_000_000
        protocol.transport.set_write_buffer_limits(chance.choice([0, 10, 100_000]))
        protocol.transport.write(payload(1, 0, size))
        await asyncio.sleep(99 - sim().time())
        # What the two kernels hold is full; the rest waits, and nobody hears of anything.
        assert protocol.is_choked
        assert 0 < protocol.transport.get_write_buffer_size() < size
        assert serving.protocols[0].received == 0
        protocol.transport.close()
        assert await protocol.lost is None
        server.close()
        served = await serving.all_lost()
        assert serving.protocols[0].received == size
        return protocol.trace, served

    trace, _ = repeated(main, seed)
    assert [what for _, what, _ in trace] == ["made", "pause", "resume", "lost"]


@pytest.mark.parametrize("aio", [asyncio, oxloop], ids=["asyncio", "oxloop"])
@pytest.mark.parametrize("seed", SEEDS)
def test_streams(aio: Any, seed: int) -> None:
    """Requests of a line and a body of known size; answers of the same, through tiny buffers."""

    async def main(chance: Random) -> Any:
        trace: list[Any] = []
        ended: list[Any] = []

        async def serve(reader: Any, writer: Any) -> None:
            writer.transport.set_write_buffer_limits(chance.choice([0, 100, 65_536]))
            total = 0
            while line := await reader.readline():
                assert line.endswith(b"\n")
                connection, start, size = map(int, line.split())
                assert start == total
                body = await reader.readexactly(size)
                assert body == payload(connection, start, size)
                total += size
                writer.write(b"%d\n" % size)
                for place in range(0, size, 3_000):
                    writer.write(body[place : place + 3_000])
                    await writer.drain()
                trace.append((sim().time(), connection, total))
            writer.close()
            await writer.wait_closed()
            ended.append(total)

        async def client(number: int) -> int:
            limit = chance.choice([64, 65_536])
            with sim().host(f"client-{number}"):
                reader, writer = await aio.open_connection("server", 7, limit=limit)
            total = 0
            for _ in range(8):
                size = chance.choice([0, 1, 63, 5_000, 40_000])

                async def request(size: int = size, start: int = total) -> None:
                    writer.write(b"%d %d %d\n" % (number, start, size))
                    writer.write(payload(number, start, size))
                    await writer.drain()

                sending = aio.create_task(request())
                assert await reader.readuntil(b"\n") == b"%d\n" % size
                half = chance.randint(0, size)
                assert await reader.readexactly(half) == payload(number, total, half)
                rest = bytearray()
                while len(rest) < size - half:
                    rest += await reader.read(size - half - len(rest))
                assert rest == payload(number, total + half, size - half)
                await sending
                total += size
            if chance.random() < 0.5:
                writer.write_eof()
                assert await reader.read() == b"" and reader.at_eof()
            writer.close()
            await writer.wait_closed()
            return total

        with sim().host("server"):
            server = await aio.start_server(serve, None, 7, limit=chance.choice([64, 65_536]))
        totals = await aio.gather(*map(client, range(4)))
        server.close()
        await asyncio.sleep(3600)
        assert sorted(ended) == sorted(totals)
        return trace

    assert len(repeated(main, seed)) == 32


@pytest.mark.parametrize("aio", [asyncio, oxloop], ids=["asyncio", "oxloop"])
@pytest.mark.parametrize("seed", SEEDS)
def test_streams_that_end_too_early(aio: Any, seed: int) -> None:
    async def main(chance: Random) -> Any:
        sent = chance.randint(1, 5_000)

        async def serve(reader: Any, writer: Any) -> None:
            await reader.readline()
            writer.write(payload(9, 0, sent))
            if sent % 2:
                await writer.drain()
            writer.close()

        with sim().host("server"):
            server = await aio.start_server(serve, None, 7)
        ends: list[Any] = []
        for read in ("readexactly", "readuntil", "readline"):
            reader, writer = await aio.open_connection("server", 7)
            writer.write(b"go\n")
            if read == "readline":
                lines = [line async for line in reader]
                assert b"".join(lines) == payload(9, 0, sent)
                assert all(line.endswith(b"\n") for line in lines[:-1])
            else:
                wanted: Any = sent + 1 if read == "readexactly" else b"in no payload"
                with pytest.raises(asyncio.IncompleteReadError) as caught:
                    await getattr(reader, read)(wanted)
                assert caught.value.partial == payload(9, 0, sent)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            ends.append(sim().time())
        server.close()
        await asyncio.sleep(10)
        return ends

    repeated(main, seed)
