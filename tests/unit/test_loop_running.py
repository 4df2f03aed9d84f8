"""Running and stopping: run_forever, run_until_complete, stop, close, nesting, states."""

import asyncio
import gc
import sys
import warnings
from typing import Any

import pytest
from loops import Factory

Loop = asyncio.AbstractEventLoop


def test_a_new_loop(loop: Loop) -> None:
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert (loop.is_running(), loop.is_closed()) == (False, False)
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_run_until_complete(loop: Loop) -> None:
    async def main() -> str:
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()
        return "result"

    assert loop.run_until_complete(main()) == "result"
    assert not loop.is_running()
    future = loop.create_future()
    loop.call_soon(future.set_result, "future")
    assert loop.run_until_complete(future) == "future"
    assert loop.run_until_complete(future) == "future"


def test_exceptions_come_out(loop: Loop) -> None:
    async def fail() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        loop.run_until_complete(fail())
    assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


def test_stop_before_run_gives_exactly_one_iteration(loop: Loop) -> None:
    calls: list[int] = []

    def again(number: int) -> None:
        calls.append(number)
        loop.call_soon(again, number + 1)

    loop.call_soon(again, 0)
    loop.stop()
    loop.run_forever()
    assert calls == [0]
    loop.stop()
    loop.run_forever()
    assert calls == [0, 1]


def test_stop_lets_the_iteration_end(loop: Loop) -> None:
    calls: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(calls.append, "same iteration")
    loop.call_soon(lambda: loop.call_soon(calls.append, "next iteration"))
    loop.run_forever()
    assert calls == ["same iteration"]
    loop.run_until_complete(asyncio.sleep(0))
    assert calls == ["same iteration", "next iteration"]


def test_stop_before_completion(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="^Event loop stopped before Future completed.$"):
        loop.run_until_complete(future)
    assert not future._callbacks  # type: ignore[attr-defined]


def test_nothing_runs_inside_a_running_loop(loop: Loop, loop_factory: Factory) -> None:
    other = loop_factory()

    async def main() -> None:
        for nested, text in (
            (loop, "This event loop is already running"),
            (other, "Cannot run the event loop while another loop is running"),
        ):
            coroutine = asyncio.sleep(0)
            with pytest.raises(RuntimeError, match=text):
                nested.run_until_complete(coroutine)
            coroutine.close()
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        loop.run_until_complete(main())
    other.close()
    gc.collect()


def test_a_closed_loop_refuses(loop_factory: Factory) -> None:
    loop = loop_factory()
    loop.close()
    loop.close()
    assert loop.is_closed()
    calls: list[Any] = [
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(asyncio.Future(loop=loop)),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.add_reader(0, print),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_what_is_queued_at_close_never_runs(loop_factory: Factory) -> None:
    loop = loop_factory()
    calls: list[str] = []
    loop.call_soon(calls.append, "soon")
    loop.call_later(0, calls.append, "later")
    loop.close()
    gc.collect()
    assert calls == []


def test_callbacks_queued_between_runs_keep_their_order(loop: Loop) -> None:
    calls: list[str] = []
    loop.call_soon(calls.append, "one")
    loop.call_soon(calls.append, "two")
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(calls.append, "three")
    loop.run_until_complete(asyncio.sleep(0))
    assert calls == ["one", "two", "three"]


def test_loops_one_after_another_and_in_threads(loop_factory: Factory) -> None:
    import threading

    results: list[int] = []

    def work(number: int) -> None:
        own = loop_factory()
        try:
            results.append(own.run_until_complete(asyncio.sleep(0.001, number)))
        finally:
            own.close()

    for number in range(3):
        work(number)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(7))


def test_a_loop_moves_between_threads_while_it_stands(loop: Loop) -> None:
    import threading

    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
    results: list[int] = []
    thread = threading.Thread(
        target=lambda: results.append(loop.run_until_complete(asyncio.sleep(0.001, 2)))
    )
    thread.start()
    thread.join()
    assert results == [2]
    assert loop.run_until_complete(asyncio.sleep(0, 3)) == 3


def test_an_unclosed_loop_warns(loop_factory: Factory) -> None:
    loop = loop_factory()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    texts = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    assert any("unclosed event loop" in text for text in texts), texts


def test_runner(loop_factory: Factory) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        assert runner.run(asyncio.sleep(0, 1)) == 1

        async def leave_behind() -> Any:
            return asyncio.get_running_loop().create_task(asyncio.sleep(100))

        pending = runner.run(leave_behind())
        assert not pending.done()
    assert pending.cancelled()
    assert loop.is_closed()


def test_attributes_can_be_set_on_a_loop(loop: Loop) -> None:
    loop.something = 1  # type: ignore[attr-defined]
    assert loop.something == 1  # type: ignore[attr-defined]
    assert repr(loop)


def test_running_loop_of_asyncio_is_restored(loop: Loop) -> None:
    async def main() -> None:
        assert asyncio._get_running_loop() is loop

    loop.run_until_complete(main())
    assert asyncio._get_running_loop() is None


def test_io_is_seen_although_the_queue_is_never_empty(loop: Loop) -> None:
    import socket

    ours, peer = socket.socketpair()
    ours.setblocking(False)
    received: list[bytes] = []
    turns = 0

    def spin() -> None:
        nonlocal turns
        turns += 1
        if not received and turns < 1_000_000:
            loop.call_soon(spin)
        else:
            loop.stop()

    def read() -> None:
        received.append(ours.recv(10))
        loop.remove_reader(ours)

    loop.add_reader(ours, read)
    loop.call_soon(spin)
    loop.call_soon(peer.send, b"x")
    loop.run_forever()
    assert received == [b"x"]
    ours.close()
    peer.close()


def test_timers_run_although_the_queue_is_never_empty(loop: Loop) -> None:
    fired: list[int] = []

    def spin() -> None:
        if fired:
            loop.stop()
        else:
            loop.call_soon(spin)

    loop.call_later(0.005, fired.append, 1)
    loop.call_soon(spin)
    loop.run_forever()
    assert fired == [1]


def test_the_recursion_of_callbacks_is_not_on_the_stack(loop: Loop) -> None:
    depths: list[int] = []

    def call(left: int) -> None:
        depths.append(_depth())
        if left:
            loop.call_soon(call, left - 1)
        else:
            loop.stop()

    loop.call_soon(call, 2000)
    loop.run_forever()
    assert len(set(depths)) == 1


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return depth
