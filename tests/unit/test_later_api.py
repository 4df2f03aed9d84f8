"""What later Pythons have and oxloop has on every version: ends of clients, eager tasks."""

import asyncio
import contextvars
import gc
import io
import sys
from typing import Any

import oxloop
import pytest
from recorder import Recorder, next_turns

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=["oxloop"])
def loop_name(request: pytest.FixtureRequest) -> Any:
    """On oxloop only: asyncio of the older Pythons has none of it, and it is tested elsewhere."""
    return request.param


async def with_clients(
    loop: Loop, protocol: type[Recorder], count: int
) -> tuple[Any, list[Recorder], list[Recorder]]:
    """A server, its side of `count` connections, and the other side."""
    accepted: list[Recorder] = []

    def factory() -> Recorder:
        accepted.append(protocol())
        return accepted[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [(await loop.create_connection(Recorder, *address))[1] for _ in range(count)]
    while len(accepted) < count:
        await asyncio.sleep(0)
    await asyncio.gather(*(each.made for each in accepted))
    return server, accepted, clients


@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
async def test_ending_the_clients(loop: Loop, how: str) -> None:
    server, accepted, clients = await with_clients(loop, Recorder, 3)
    server.close()
    assert getattr(server, how)() is None
    await server.wait_closed()
    for protocol in (*accepted, *clients):
        await protocol.lost
    assert all(each.events == ["made", "lost"] for each in accepted)
    getattr(server, how)()


@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
async def test_the_server_goes_on_serving(loop: Loop, how: str) -> None:
    server, accepted, clients = await with_clients(loop, Recorder, 2)
    getattr(server, how)()
    for protocol in (*accepted, *clients):
        await protocol.lost
    assert server.is_serving()
    _, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    client.transport.write(b"next")
    while len(accepted) < 3:
        await asyncio.sleep(0)
    assert await accepted[2].wait_received(4) == b"next"
    client.transport.close()
    await accepted[2].lost
    server.close()


async def test_closing_the_clients_sends_what_was_written_and_aborting_does_not(
    loop: Loop,
) -> None:
    data = bytes(4 << 20)
    for how in ("close_clients", "abort_clients"):
        server, (served,), (client,) = await with_clients(loop, Recorder, 1)
        client.transport.pause_reading()
        served.transport.write(data)
        await next_turns(5)
        assert served.transport.get_write_buffer_size() > 0
        server.close()
        getattr(server, how)()
        await next_turns(5)
        assert served.lost.done() is (how == "abort_clients")
        client.transport.resume_reading()
        await client.lost
        await served.lost
        assert (client.received == data) is (how == "close_clients")


async def test_a_client_that_ends_others_while_all_are_ended(loop: Loop) -> None:
    class Ending(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            server.abort_clients()
            server.close_clients()

    server, accepted, clients = await with_clients(loop, Ending, 5)
    server.close_clients()
    for protocol in (*accepted, *clients):
        await protocol.lost
    server.close()
    await server.wait_closed()


@pytest.fixture(params=["eager_task_factory", "create_eager_task_factory"])
def eager_loop(request: pytest.FixtureRequest, loop: Loop) -> Any:
    if request.param == "eager_task_factory":
        loop.set_task_factory(oxloop.eager_task_factory)
    else:
        loop.set_task_factory(oxloop.create_eager_task_factory(oxloop.Task))
    return loop


async def at_once(trace: list[str], value: object) -> object:
    trace.append("ran")
    return value


async def test_an_eager_task_that_never_waits_is_done_at_once(eager_loop: Loop, loop: Loop) -> None:
    trace: list[str] = []
    me = asyncio.current_task()
    task = oxloop.create_task(at_once(trace, 7), name="eager")
    assert trace == ["ran"]
    assert task.done() and task.result() == 7
    assert isinstance(task, oxloop.Task) and task.get_name() == "eager"
    assert asyncio.current_task() is me
    assert task not in asyncio.all_tasks()


async def test_an_eager_task_that_waits_goes_on_later(eager_loop: Loop, loop: Loop) -> None:
    async def steps() -> str:
        trace.append(asyncio.current_task())
        await asyncio.sleep(0)
        trace.append(asyncio.current_task())
        return "end"

    trace: list[Any] = []
    task = asyncio.create_task(steps())
    assert trace == [task] and not task.done()
    assert task in asyncio.all_tasks()
    assert await task == "end"
    assert trace == [task, task]


async def test_an_eager_step_that_raises(eager_loop: Loop, loop: Loop) -> None:
    async def fail() -> None:
        raise ValueError("eager")

    task = asyncio.create_task(fail())
    assert task.done()
    with pytest.raises(ValueError, match="eager"):
        await task


async def test_eager_tasks_in_groups_and_gather(eager_loop: Loop, loop: Loop) -> None:
    trace: list[str] = []
    async with oxloop.TaskGroup() as group:
        tasks = [group.create_task(at_once(trace, number)) for number in range(3)]
        assert trace == ["ran"] * 3
        waiting = group.create_task(asyncio.sleep(0, "slept"))
    assert [task.result() for task in tasks] == [0, 1, 2]
    assert waiting.result() == "slept"
    assert await oxloop.gather(*(at_once(trace, number) for number in range(3))) == [0, 1, 2]


async def test_an_eager_task_is_cancelled_while_it_waits(eager_loop: Loop, loop: Loop) -> None:
    task = asyncio.create_task(asyncio.sleep(3600))
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_the_context_of_an_eager_step(eager_loop: Loop, loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def change() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    variable.set("mine")
    assert await asyncio.create_task(change()) == "mine"
    assert variable.get() == "mine"
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    assert await asyncio.create_task(change(), context=context) == "given"
    assert context[variable] == "changed"


async def test_eager_start_is_a_choice(loop: Loop) -> None:
    """A factory of one's own constructor, and a task that is told not to be eager."""
    made: list[dict[str, Any]] = []

    def constructor(coro: Any, **options: Any) -> Any:
        made.append(options)
        return oxloop.Task(coro, **options)

    trace: list[str] = []
    factory: Any = oxloop.create_eager_task_factory(constructor)
    task = factory(loop, at_once(trace, 1), eager_start=False)
    assert trace == [] and not task.done()
    assert await task == 1
    assert factory(loop, at_once(trace, 2), name="named").result() == 2
    assert [options["eager_start"] for options in made] == [False, True]
    assert made[1]["name"] == "named"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's are new in Python 3.12")
async def test_the_factories_of_asyncio_give_the_same(loop: Loop) -> None:
    theirs: Any = asyncio
    trace: list[str] = []
    for factory in (theirs.eager_task_factory, oxloop.eager_task_factory):
        loop.set_task_factory(factory)
        task = asyncio.create_task(at_once(trace, 1))
        assert task.done() and isinstance(task, asyncio.Task)
    assert trace == ["ran"] * 2


def test_an_eager_task_without_a_coroutine_can_be_shown(loop: Loop) -> None:
    async def ended(result: object) -> object:
        return result

    async def failed() -> None:
        raise ValueError("eager")

    async def main() -> None:
        task = asyncio.create_task(ended(5), name="first")
        assert repr(task) == "<Task finished name='first' result=5>"
        failure = asyncio.create_task(failed(), name="second")
        assert repr(failure) == "<Task finished name='second' exception=ValueError('eager')>"
        assert isinstance(failure.exception(), ValueError)
        itself: list[Any] = []
        around = asyncio.create_task(ended(itself), name="third")
        itself.append(around)
        assert repr(around) == "<Task finished name='third' result=[...]>"
        file = io.StringIO()
        task.print_stack(file=file)
        assert file.getvalue() == f"No stack for {task!r}\n"

    loop.set_task_factory(oxloop.eager_task_factory)
    loop.run_until_complete(main())


def test_the_report_of_an_eager_failure_is_logged(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def failed() -> None:
        raise ValueError("eager")

    async def main() -> None:
        asyncio.create_task(failed(), name="lost")
        gc.collect()

    loop.set_exception_handler(None)
    loop.set_task_factory(oxloop.eager_task_factory)
    loop.run_until_complete(main())
    assert "future: <Task finished name='lost' exception=ValueError('eager')>" in caplog.text
