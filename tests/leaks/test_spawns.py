"""Many child processes, among them such as cannot be started: no zombie, no descriptor is left."""

import asyncio
import signal
import subprocess
from typing import Any

from holdings import Holdings, has_children
from loops import Factory

AT_ONCE = 20


async def succeeds() -> None:
    process = await asyncio.create_subprocess_exec("/bin/true")
    assert await process.wait() == 0


async def fails() -> None:
    process = await asyncio.create_subprocess_exec("/bin/false")
    assert await process.wait() == 1


async def says_something() -> None:
    process = await asyncio.create_subprocess_exec(
        "/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert await process.communicate(b"something") == (b"something", b"")


async def does_not_exist() -> None:
    try:
        await asyncio.create_subprocess_exec(
            "/nonexistent", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    except FileNotFoundError:
        return
    raise AssertionError("it does not exist, but it runs")


async def has_no_directory() -> None:
    try:
        await asyncio.create_subprocess_exec("/bin/true", cwd="/nonexistent", stderr=-1)
    except FileNotFoundError:
        return
    raise AssertionError("it runs nowhere")


async def is_killed() -> None:
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=subprocess.PIPE)
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def is_cancelled_while_it_starts() -> None:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec("/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    if not starting.cancelled():
        starting.result().kill()
        await starting.result().wait()


async def is_closed_by_its_transport() -> None:
    loop = asyncio.get_running_loop()
    lost = loop.create_future()

    class Protocol(asyncio.SubprocessProtocol):
        def connection_lost(self, exc: BaseException | None) -> None:
            lost.set_result(exc)

    transport, _ = await loop.subprocess_exec(Protocol, "/bin/cat")
    transport.close()
    await lost


KINDS = [
    succeeds,
    fails,
    says_something,
    does_not_exist,
    has_no_directory,
    is_killed,
    is_cancelled_while_it_starts,
    is_closed_by_its_transport,
]


def spawns(loop_factory: Factory, count: int) -> dict[str, Any]:
    before = Holdings.now()
    reports: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        await asyncio.gather(*[kind() for kind in KINDS])
        held = Holdings.now()
        for start in range(0, count, AT_ONCE):
            kinds = (KINDS[number % len(KINDS)] for number in range(start, start + AT_ONCE))
            await asyncio.gather(*[asyncio.wait_for(kind(), 60) for kind in kinds])
        assert Holdings.now() == held
        assert not has_children()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert reports == []
    assert not has_children()
    assert Holdings.now() == before
    return {"processes": count, "zombies": 0, **before._asdict()}


def test_spawns(run_long: Any) -> None:
    run_long(spawns, 480, 20_000)
