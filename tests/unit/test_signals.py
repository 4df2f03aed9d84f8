"""Signal handlers: main thread only, delivered in the loop, also those that came before it ran."""

import asyncio
import os
import signal
import threading
from typing import Any

import pytest
from recorder import next_turns

Loop = asyncio.AbstractEventLoop


def send(number: int = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), number)


async def test_a_signal_arrives(loop: Loop) -> None:
    arrived = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, lambda *args: arrived.set_result(args), 1, 2)
    send()
    assert await arrived == (1, 2)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


async def test_a_handler_is_replaced(loop: Loop) -> None:
    calls: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "second")
    send()
    while not calls:
        await asyncio.sleep(0)
    assert calls == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_while_the_loop_stands_is_seen_at_the_next_run(loop: Loop) -> None:
    calls: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "seen")
    send()

    async def main() -> None:
        while not calls:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(main(), 10))
    assert calls == ["seen"]
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_signal_wakes_an_idle_loop(loop: Loop) -> None:
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    sender = threading.Timer(0.02, send)
    sender.start()
    await arrived.wait()
    sender.join()
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_sigint_and_the_default_handler(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGINT)
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, arrived.set)
    send(signal.SIGINT)
    await arrived.wait()
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


async def test_what_is_refused(loop: Loop) -> None:
    async def coroutine_function() -> None: ...

    coroutine = coroutine_function()
    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)
    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)  # type: ignore[arg-type]
    coroutine.close()
    with pytest.raises(TypeError, match="sig must be an int"):
        loop.add_signal_handler("SIGUSR1", print)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="invalid signal number"):
        loop.add_signal_handler(1000, print)
    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)


def test_only_in_the_main_thread(loop: Loop) -> None:
    raised: list[BaseException] = []

    def other() -> None:
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except (RuntimeError, ValueError) as error:
            raised.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_close_removes_the_handlers(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


async def test_a_failing_handler_is_reported(loop: Loop, errors: list[dict[str, Any]]) -> None:
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 // 0)
    send()
    while not errors:
        await asyncio.sleep(0)
    assert isinstance(errors.pop()["exception"], ZeroDivisionError)
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_python_handlers_of_signal_signal_run_too(loop: Loop) -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: calls.append(number))
    try:
        sender = threading.Timer(0.02, send, (signal.SIGUSR2,))
        sender.start()
        while not calls:
            await asyncio.sleep(0.01)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    await next_turns(1)
    assert calls == [signal.SIGUSR2]
