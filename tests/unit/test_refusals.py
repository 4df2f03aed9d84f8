"""What is refused, or closed, because something was wrong with it: asyncio's and oxloop's alike."""

import asyncio
import collections
import gc
import logging
import os
import socket
import sys
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop


def raising() -> asyncio.Protocol:
    raise KeyError("factory")


async def test_a_given_socket_without_a_transport(loop: Loop) -> None:
    """Closed since 3.14 (gh-153133); before, it stays the caller's."""
    ours, peer = socket.socketpair()
    with ours, peer:
        with pytest.raises(KeyError):
            await loop.create_connection(raising, sock=ours)
        assert (ours.fileno() == -1) == (sys.version_info >= (3, 14))


async def test_a_given_socket_that_a_transport_has_stays_open(loop: Loop, loop_name: str) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio closes it under the transport since 3.14")
    ours, peer = socket.socketpair()
    with peer:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.write(b"still here")
        peer.setblocking(False)
        assert await loop.sock_recv(peer, 100) == b"still here"
        transport.close()
        await asyncio.sleep(0)


async def test_what_is_no_protocol_makes_no_connection(loop: Loop, loop_name: str) -> None:
    ours, peer = socket.socketpair()
    nothing: Any = lambda: None  # noqa: E731
    with ours, peer:
        with pytest.raises(AttributeError, match="connection_made"):
            await loop.create_connection(nothing, sock=ours)
    if loop_name == "asyncio":
        pytest.skip("asyncio's half-made datagram transport keeps its number")
    with pytest.raises(AttributeError, match="connection_made"):
        await loop.create_datagram_endpoint(nothing, local_addr=("127.0.0.1", 0))


async def test_nor_on_a_server(loop: Loop, loop_name: str, errors: list[dict[str, Any]]) -> None:
    if loop_name == "asyncio":
        pytest.skip("asyncio leaves such a connection open")
    loop.set_debug(True)
    nothing: Any = lambda: None  # noqa: E731
    server = await loop.create_server(nothing, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
    assert [report["message"] for report in errors] == [
        "Error on transport creation for incoming connection"
    ]
    errors.clear()


async def test_a_closed_server_does_not_start(loop: Loop) -> None:
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    server.close()
    with pytest.raises(TypeError):
        await server.start_serving()


async def test_nothing_written_to_a_lost_connection_is_no_mistake(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.abort()
        for nothing in [b"", bytearray(), memoryview(b"")] * 3:
            transport.write(nothing)
        await asyncio.sleep(0)
    assert "socket.send() raised exception." not in caplog.text


async def test_cancelled_waits_for_a_process_are_forgotten(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    for _ in range(10):
        waiting = asyncio.ensure_future(process.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    if isinstance(loop, oxloop.EventLoop):
        assert not process._transport._exit_waiters  # type: ignore[attr-defined]
    await process.communicate(b"\n")


def test_a_process_closed_with_its_loop_leaves_no_descriptor() -> None:
    async def start(loop: Any) -> None:
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, sys.executable, "-c", "input()"
        )
        transport.close()

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        loop = oxloop.EventLoop()
        loop.run_until_complete(start(loop))
        loop.close()
        del loop
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_any_mapping_is_a_report(loop: Loop, errors: list[dict[str, Any]]) -> None:
    report: Any = collections.ChainMap({"message": "said"})
    loop.call_exception_handler(report)
    assert errors == [report]
    errors.clear()
    loop.set_exception_handler(None)
    loop.call_exception_handler(report)


async def test_reports_name_the_handle_that_runs(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    loop.set_debug(True)

    def report() -> None:
        loop.call_exception_handler({"message": "said"})

    loop.call_soon(report)
    with caplog.at_level(logging.ERROR, "asyncio"):
        await asyncio.sleep(0)
    assert "handle_traceback: Handle created at (most recent call last):" in caplog.text
    assert "loop.call_soon(report)" in caplog.text


@pytest.mark.parametrize("gather", [asyncio.gather, oxloop.gather], ids=["asyncio", "oxloop"])
async def test_gathering_what_is_another_loops(loop: Loop, gather: Any) -> None:
    other = asyncio.new_event_loop()
    future = other.create_future()
    if sys.version_info >= (3, 14):
        with pytest.raises(ValueError, match="belongs to a different loop"):
            gather(future)
    else:
        gather(future).cancel()
    other.close()


async def test_no_task_is_current_where_a_group_cancels(loop: Loop) -> None:
    seen = []

    class Mine(asyncio.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            seen.append(asyncio.current_task())
            return super().cancel(msg)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError

    with pytest.raises(BaseExceptionGroup):
        async with oxloop.TaskGroup() as group:
            group.create_task(fail())
            await Mine(loop=loop)
    assert seen == [None]
