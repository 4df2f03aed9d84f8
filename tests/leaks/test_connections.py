"""Many TCP connections, begun and ended in every way: nothing of them stays.

A hundred thousand in a full run: the memory does not grow (less than a byte a connection once all
pools are filled), descriptors and threads are as before. With the collector switched off, closed
transports and their protocols go by their reference counts alone.
"""

import asyncio
import gc
import socket
from collections.abc import Callable
from typing import Any

import endings
import pytest
from holdings import Holdings, resident_bytes, slope
from loops import Factory

AT_ONCE = 50


class Quiet:
    """An exception handler that expects the error that a server raises as asked, no other."""

    def __init__(self) -> None:
        self.unexpected: list[Any] = []

    def __call__(self, loop: Any, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), ValueError):
            self.unexpected.append(context)


async def make_place() -> tuple[endings.Place, list[Any]]:
    """A server, a listener that does not answer and a port that refuses; what must be closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(endings.Echo, "0.0.0.0", 0, backlog=1000)
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(silent.getsockname())
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))
    place = endings.Place(
        server.sockets[0].getsockname()[1], silent.getsockname(), refusing.getsockname()[1]
    )
    return place, [server, silent, *fillers, refusing]


async def carry_out(place: endings.Place, kinds: list[Any], count: int) -> None:
    """Begin and end `count` connections, some at a time."""
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        # One time limit for all: the loop's timers keep room for many, which takes long to fill.
        async with asyncio.timeout(30):
            await asyncio.gather(*[kinds[number % len(kinds)](place) for number in numbers])


async def until_gone() -> None:
    """Wait until the server's ends of the connections are gone too."""
    async with asyncio.timeout(20):
        while endings.alive:
            await asyncio.sleep(0.001)


def run_in(loop_factory: Factory, main: Callable[[], Any]) -> None:
    """Run `main()` on a new loop; no unexpected report, and nothing held in the end."""
    quiet = Quiet()
    before = Holdings.now()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(quiet)
        runner.run(main())
    assert quiet.unexpected == [], quiet.unexpected[:3]
    assert Holdings.now() == before


def memory(loop_factory: Factory, count: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}

    async def main() -> None:
        place, closables = await make_place()
        block = max(count // 20, AT_ONCE * len(endings.ALL))
        await carry_out(place, endings.ALL, 2 * block)
        await until_gone()
        held = Holdings.now()
        points = []
        for done in range(0, count, block):
            await carry_out(place, endings.ALL, block)
            await until_gone()
            points.append((float(done), float(resident_bytes())))
        now = Holdings.now()
        assert now == held
        for each in closables:
            each.close()
        grown = points[-1][1] - points[0][1]
        rate = slope(points[len(points) // 4 :])
        figures.update(connections=count, bytes_each=round(rate, 3), KiB=round(grown / 1024))
        figures.update(now._asdict())
        # A few pages are many bytes a connection in a short run.
        assert rate < 1 or grown <= 64 << 10, figures

    run_in(loop_factory, main)
    return figures


def by_reference_counts(loop_factory: Factory, count: int) -> dict[str, Any]:
    async def main() -> None:
        place, closables = await make_place()
        for kind in endings.ALL:
            await carry_out(place, [kind], AT_ONCE)
            await until_gone()
        gc.collect()
        gc.disable()
        for kind in endings.ALL:
            await carry_out(place, [kind], count // len(endings.ALL))
            try:
                await until_gone()
            except TimeoutError:
                left = {type(each).__name__ for each in endings.alive}
                raise AssertionError(f"{kind.__name__} leaves {left} to the collector") from None
        for each in closables:
            each.close()

    run_in(loop_factory, main)
    return {"connections": count, "left to the collector": 0}


@pytest.mark.parametrize(
    ("scenario", "few", "many"), [(memory, 6_000, 100_000), (by_reference_counts, 2_800, 28_000)]
)
def test_leaks(run_long: Any, scenario: Any, few: int, many: int) -> None:
    run_long(scenario, few, many)
