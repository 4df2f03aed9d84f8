"""Debug mode: wrong threads, wrong callables, slow callbacks, where things were made."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def debug_loop(loop: Loop) -> Loop:
    loop.set_debug(True)
    return loop


def test_switch(loop: Loop) -> None:
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def debug_of_a_new_loop(loop_factory: Any) -> None:
    loop = loop_factory()
    print(loop.get_debug())
    loop.close()


def test_the_environment_switches_it_on(in_child: Any) -> None:
    assert in_child(debug_of_a_new_loop, PYTHONASYNCIODEBUG="1").stdout == "True\n"
    assert in_child(debug_of_a_new_loop, PYTHONASYNCIODEBUG="").stdout == "False\n"


def test_calls_from_a_wrong_thread(debug_loop: Loop) -> None:
    raised: list[str] = []

    def other() -> None:
        for call in (
            lambda: debug_loop.call_soon(print),
            lambda: debug_loop.call_later(1, print),
            lambda: debug_loop.call_at(1, print),
        ):
            try:
                call()
            except RuntimeError as error:
                raised.append(str(error))

    async def main() -> None:
        await asyncio.to_thread(other)

    debug_loop.run_until_complete(main())
    assert len(raised) == 3
    assert all(text.startswith("Non-thread-safe operation invoked") for text in raised)


def test_a_task_from_a_wrong_thread(debug_loop: Loop) -> None:
    # The task that is refused is reported as pending, some time.
    debug_loop.set_exception_handler(lambda *_: None)
    made: list[Any] = []

    async def nothing() -> None:
        pass

    def other() -> None:
        coroutine = nothing()
        made.append(coroutine)
        debug_loop.create_task(coroutine)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="Non-thread-safe operation invoked"):
            await asyncio.to_thread(other)

    debug_loop.run_until_complete(main())
    made.pop().close()


async def test_a_waiting_task_from_a_wrong_thread(loop: Loop, loop_name: str) -> None:
    """Told, but the task is woken all the same; asyncio's waits for ever."""
    if loop_name == "asyncio":
        pytest.skip("asyncio never wakes it")
    loop.set_debug(True)
    future = loop.create_future()
    waiting = [loop.create_task(asyncio.wait_for(future, None)) for _ in range(2)]
    await next_turns(3)
    with pytest.raises(RuntimeError, match="Non-thread-safe operation invoked"):
        await asyncio.to_thread(future.set_result, 1)
    assert [await task for task in waiting] == [1, 1]


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_only_callables_and_no_coroutines(debug_loop: Loop, method: str) -> None:
    async def coroutine_function() -> None: ...

    first = (1,) if method in ("call_later", "call_at") else ()
    call = getattr(debug_loop, method)
    named = "call_at" if method == "call_later" else method
    with pytest.raises(TypeError, match=f"a callable object was expected by {named}"):
        call(*first, 7)
    with pytest.raises(TypeError, match=f"coroutines cannot be used with {named}"):
        call(*first, coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=f"coroutines cannot be used with {named}"):
        call(*first, coroutine)
    coroutine.close()


def test_slow_callbacks_are_reported(debug_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    assert debug_loop.slow_callback_duration == 0.1  # type: ignore[attr-defined]
    debug_loop.slow_callback_duration = 0.02  # type: ignore[attr-defined]

    def slow_function() -> None:
        time.sleep(0.03)

    async def slow_step() -> None:
        time.sleep(0.03)

    async def main() -> None:
        debug_loop.call_soon(slow_function)
        await next_turns(2)
        await debug_loop.create_task(slow_step())

    with caplog.at_level(logging.WARNING, "asyncio"):
        debug_loop.run_until_complete(main())
    texts = [record.getMessage() for record in caplog.records]
    texts = [text for text in texts if text.startswith("Executing")]
    assert any("slow_function" in text and " took 0." in text for text in texts), texts
    assert any("slow_step" in text for text in texts), texts


def test_nothing_is_reported_without_debug(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.slow_callback_duration = 0.001  # type: ignore[attr-defined]
    loop.call_soon(time.sleep, 0.01)
    loop.run_until_complete(asyncio.sleep(0))
    assert caplog.records == []


def test_source_tracebacks(debug_loop: Loop) -> None:
    async def main() -> None:
        future: Any = debug_loop.create_future()
        assert "main" in [frame.name for frame in future._source_traceback]
        task: Any = debug_loop.create_task(asyncio.sleep(0))
        assert task._source_traceback[-1].name == "main"
        assert "created at" in repr(task)
        await task

    debug_loop.run_until_complete(main())


def test_reports_say_where_things_were_made(debug_loop: Loop, errors: list[dict[str, Any]]) -> None:
    def schedule() -> None:
        debug_loop.call_soon(lambda: 1 // 0)

    async def main() -> None:
        schedule()
        await next_turns(2)

    debug_loop.run_until_complete(main())
    names = [frame.name for frame in errors.pop()["source_traceback"]]
    assert names[-1] == "schedule"


def test_coroutine_origins_are_tracked_and_restored(debug_loop: Loop) -> None:
    async def main() -> Any:
        coroutine = asyncio.sleep(0)
        origin = coroutine.cr_origin
        await coroutine
        return origin

    sys.set_coroutine_origin_tracking_depth(3)
    try:
        assert debug_loop.run_until_complete(main())[0][2] == "main"
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


def test_switching_while_running_changes_origin_tracking(loop: Loop) -> None:
    async def main() -> list[int]:
        depths = [sys.get_coroutine_origin_tracking_depth()]
        for enabled in (True, False):
            loop.set_debug(enabled)
            await next_turns(2)
            depths.append(sys.get_coroutine_origin_tracking_depth())
        return depths

    off, on, off_again = loop.run_until_complete(main())
    assert (off, off_again) == (0, 0)
    assert on > 0


def test_stop_and_close_may_be_called_from_threads(debug_loop: Loop) -> None:
    thread = threading.Timer(0.01, debug_loop.call_soon_threadsafe, (debug_loop.stop,))
    thread.start()
    debug_loop.run_forever()
    thread.join()


NEVER_AWAITED = """
import asyncio, loops, sys

async def forgotten(): ...

async def main():
    forgotten()

with asyncio.Runner(loop_factory=loops.factory(sys.argv[1]), debug=True) as runner:
    runner.run(main())
"""


def test_a_coroutine_never_awaited_names_its_origin(loop_name: str) -> None:
    tests = Path(__file__).parent.parent  # the folder of the shared modules
    search_path = os.pathsep.join(filter(None, [str(tests), os.environ.get("PYTHONPATH")]))

    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", NEVER_AWAITED, loop_name],
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "coroutine 'forgotten' was never awaited" in done.stderr
    assert "Coroutine created at (most recent call last)" in done.stderr
    assert "in main" in done.stderr
