"""`oxloop.testing`: whole programs on a simulated network, in virtual time, from one seed."""

import asyncio
import errno
import socket
import time
from typing import Any

import pytest
from oxloop.testing import SimEventLoop, run

DAY_S = 86_400


def sim() -> SimEventLoop:
    """The running simulated loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimEventLoop)
    return loop


async def serve_echo(name: str = "server", port: int = 7) -> Any:
    """A server that sends back what it receives, on the host `name`."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(10_000):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    with sim().host(name):
        return await asyncio.start_server(echo, None, port)


async def exchange(size: int, client: str = "client") -> tuple[bytes, float]:
    """Send `size` bytes to the echo and receive them; with the virtual seconds it took."""
    with sim().host(client):
        reader, writer = await asyncio.open_connection("server", 7)
    began = sim().time()
    data = bytes(number % 251 for number in range(size))

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    received = await reader.read()
    await sending
    writer.close()
    await writer.wait_closed()
    assert received == data
    return received, sim().time() - began


async def program(size: int = 200_000, clients: int = 5) -> tuple[int, float]:
    """Several clients at once: the trace and the virtual time at the end."""
    server = await serve_echo()
    await asyncio.gather(*[exchange(size, f"client-{number}") for number in range(clients)])
    server.close()
    await asyncio.sleep(1)
    return sim().trace(), sim().time()


def test_a_day_passes_in_a_moment() -> None:
    async def main() -> list[str]:
        events: list[str] = []

        async def note(after_s: float, what: str) -> None:
            await asyncio.sleep(after_s)
            events.append(what)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DAY_S):
                await asyncio.gather(note(2, "two"), note(1, "one"), note(2 * DAY_S, "never"))
        assert sim().time() == pytest.approx(DAY_S)
        return events

    began = time.monotonic()
    assert run(main()) == ["one", "two"]
    assert time.monotonic() - began < 30


def test_bytes_go_round_between_hosts_and_take_their_time() -> None:
    async def main() -> None:
        server = await serve_echo()
        sim().set_link("near", "server", latency_s=0.001)
        sim().set_link("far", "server", latency_s=0.5)
        _, near_s = await exchange(10, "near")
        _, far_s = await exchange(10, "far")
        assert 0.002 <= near_s < 0.1
        assert 1.0 <= far_s < 3
        server.close()

    async def with_hosts() -> None:
        for name in ("near", "far", "server"):
            sim().add_host(name)
        await main()

    run(with_hosts())


def test_bandwidth_bounds_what_passes() -> None:
    async def main() -> float:
        await serve_echo()
        return (await exchange(1_000_000))[1]

    assert run(main(), bytes_per_s=1_000_000) >= 1
    assert run(main()) < 0.5


def test_addresses_are_those_of_the_hosts() -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def welcome(_: Any, writer: Any) -> None:
            seen.append((writer.get_extra_info("sockname"), writer.get_extra_info("peername")))
            writer.close()

        with sim().host("server") as own:
            server = await asyncio.start_server(welcome, "0.0.0.0", 0)
        address = server.sockets[0].getsockname()
        assert address[0] == own
        with sim().host("client") as other:
            reader, writer = await asyncio.open_connection(*address)
        await reader.read()
        assert seen == [(address, writer.get_extra_info("sockname"))]
        assert seen[0][1][0] == other != own
        assert await sim().getaddrinfo("server", 1) == [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (own, 1))
        ]
        writer.close()
        server.close()

    run(main())


def test_what_a_server_starts_is_on_its_host() -> None:
    async def main() -> None:
        await serve_echo("inner")

        async def forward(reader: Any, writer: Any) -> None:
            inner_reader, inner = await asyncio.open_connection("inner", 7)
            hosts.append(inner.get_extra_info("sockname")[0])
            inner.write(await reader.readexactly(3))
            writer.write(await inner_reader.readexactly(3))
            inner.close()
            writer.close()

        hosts: list[str] = []
        with sim().host("outer") as outer:
            await asyncio.start_server(forward, None, 80)
        with sim().host("client"):
            reader, writer = await asyncio.open_connection("outer", 80)
        writer.write(b"abc")
        assert await reader.read() == b"abc"
        assert hosts == [outer]
        writer.close()

    run(main())


def test_the_same_seed_is_the_same_run() -> None:
    faults = {"jitter": 5000, "short-receive": 3000, "short-send": 3000, "interrupted": 500}
    runs = [run(program(), seed=seed, faults=faults) for seed in (1, 1, 1, 2, 3)]
    assert runs[0] == runs[1] == runs[2]
    assert len(set(runs)) == 3


def test_ready_callbacks_stay_in_order_whatever_the_seed() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        for number in range(100):
            sim().call_soon(order.append, number)
        await asyncio.sleep(0)
        return order

    for seed in range(5):
        assert run(main(), seed=seed, faults={"reorder": 10_000}) == list(range(100))


@pytest.mark.parametrize("seed", range(20))
def test_bytes_survive_the_faults_that_a_kernel_may_have_at_any_time(seed: int) -> None:
    faults = {
        "interrupted": 2000,
        "spurious-readiness": 2000,
        "short-receive": 5000,
        "short-send": 5000,
        "reorder": 10_000,
        "late": 4000,
        "stale": 2000,
        "jitter": 10_000,
    }
    run(program(100_000, 4), seed=seed, faults=faults)


def test_a_connection_that_is_reset_is_an_error() -> None:
    async def main() -> BaseException:
        await serve_echo()
        sim().set_fault("reset", 10_000)
        with sim().host("client"):
            reader, writer = await asyncio.open_connection("server", 7)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError) as caught:
            await reader.read()
        writer.close()
        return caught.value

    assert isinstance(run(main()), ConnectionResetError)


def test_connecting_to_nobody_is_refused() -> None:
    async def main() -> None:
        sim().add_host("idle")
        with pytest.raises(ConnectionRefusedError) as refused:
            await asyncio.open_connection("idle", 1)
        assert refused.value.errno == errno.ECONNREFUSED
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("nobody", 1)

    run(main())


def test_a_port_is_taken_once() -> None:
    async def main() -> None:
        server = await serve_echo()
        with pytest.raises(OSError) as taken:
            await serve_echo()
        assert taken.value.errno == errno.EADDRINUSE
        server.close()
        await asyncio.sleep(0)
        (await serve_echo()).close()

    run(main())


def test_a_program_that_waits_for_nothing_is_told() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(OSError, match="the simulation stands still"):
        run(main())


def test_functions_for_threads_run_in_the_loops_own() -> None:
    import threading

    async def main() -> None:
        own = threading.get_ident()
        assert await asyncio.to_thread(threading.get_ident) == own
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    run(main())


def test_what_cannot_be_simulated_is_refused() -> None:
    async def main() -> None:
        loop = sim()
        ours, peer = socket.socketpair()
        with ours, peer:
            for call in (
                lambda: loop.add_reader(ours, print),
                lambda: loop.remove_writer(ours),
                lambda: loop.sock_recv(ours, 1),
                lambda: loop.add_signal_handler(2, print),
                lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol),
                lambda: loop.create_unix_server(asyncio.Protocol, "path"),
            ):
                with pytest.raises(NotImplementedError, match="cannot be simulated"):
                    call()
            with pytest.raises(NotImplementedError):
                await loop.create_connection(asyncio.Protocol, sock=ours)
            with pytest.raises(NotImplementedError):
                await loop.create_server(asyncio.Protocol, "server", 1, ssl=True)
            with pytest.raises(NotImplementedError):
                await asyncio.create_subprocess_exec("true")

    run(main())


def test_faults_have_names() -> None:
    loop = SimEventLoop(3, faults={"jitter": 7})
    try:
        assert loop.faults() == {"jitter": 7}
        with pytest.raises(ValueError, match="no fault is called .rain.; there are interrupted"):
            loop.set_fault("rain", 1)
        with pytest.raises(ValueError, match="from 0 to 10000"):
            loop.set_fault("jitter", 10_001)
        assert loop.draw_faults(1) == loop.draw_faults(1) != loop.draw_faults(2)
        loop.calm()
        assert loop.faults() == {}
    finally:
        loop.close()


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_left_and_no_rule_of_the_kernel_broken(seed: int) -> None:
    """With faults that end connections: whatever happens, every descriptor is closed, once."""

    async def main() -> None:
        await serve_echo()
        sim().draw_faults(seed)
        await asyncio.gather(
            *[asyncio.wait_for(exchange(20_000, f"client-{number}"), 60) for number in range(4)],
            return_exceptions=True,
        )
        sim().calm()
        await asyncio.sleep(5)

    loop = SimEventLoop(seed)
    loop.set_exception_handler(lambda *_: None)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    import gc

    gc.collect()
    assert loop._simulation.take_breaches() == []
    assert loop._simulation.open_count() == 0


def test_ctrl_c_ends_a_simulation() -> None:
    import os
    import signal

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            await asyncio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        run(main())
