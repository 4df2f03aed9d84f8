"""Programs that are interrupted: ``interrupted.py SCENARIO LOOP``.

Those named ``plain_…`` run a loop without a Runner, where Ctrl-C is a KeyboardInterrupt at
once; the others run under `asyncio.Runner`, where the first one cancels the main task. Each
says ``ready`` where it waits for the signal and ``end`` if it ends by itself.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import loops


def say(text: str) -> None:
    print(text, flush=True)


async def busy_loop() -> None:
    turns = 0
    try:
        while True:
            await asyncio.sleep(0)
            turns += 1
            if turns == 100:
                say("ready")
    except asyncio.CancelledError:
        say("cancelled")
        raise


async def idle_loop() -> None:
    asyncio.get_running_loop().call_soon(say, "ready")
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        say("finally")


async def timer_only() -> None:
    asyncio.get_running_loop().call_later(0.01, say, "ready")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        say("cancelled")
        raise


async def callback() -> None:
    """The first Ctrl-C does not break into a callback; the main task is cancelled after it."""
    main = asyncio.current_task()
    assert main is not None

    def spin() -> None:
        say("ready")
        while not main.cancelling():
            pass
        say("callback ends")

    asyncio.get_running_loop().call_soon(spin)
    try:
        await asyncio.sleep(3600)
    finally:
        say("finally")


async def callback_twice() -> None:
    """The second Ctrl-C does."""
    main = asyncio.current_task()
    assert main is not None

    def spin() -> None:
        say("ready")
        while not main.cancelling():
            pass
        try:
            say("ready")
            while True:
                pass
        except KeyboardInterrupt:
            say("KeyboardInterrupt in the callback")
            raise

    asyncio.get_running_loop().call_soon(spin)
    try:
        await asyncio.sleep(3600)
    finally:
        say("finally")


async def cleaning_up() -> None:
    """A finally of the main task that waits is allowed to end."""
    try:
        asyncio.get_running_loop().call_soon(say, "ready")
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        await asyncio.sleep(0.01)
        say("clean")


async def cleaning_up_twice() -> None:
    """Unless there is a second Ctrl-C."""
    try:
        asyncio.get_running_loop().call_soon(say, "ready")
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        asyncio.get_running_loop().call_later(0.01, say, "ready")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            say("cancelled while cleaning")
            raise


async def refusing() -> None:
    """A main task that swallows the cancellation: the program ends as if nothing had been."""
    asyncio.get_running_loop().call_soon(say, "ready")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)
    say("refused")


async def executor_shutdown() -> None:
    """The main task is done; the loop waits for a thread, which waits for the end of stdin."""
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, sys.stdin.read)
    original = loop.shutdown_default_executor

    async def shutdown(*args: object) -> None:
        loop.call_later(0.05, say, "ready")
        await original(*args)  # type: ignore[arg-type]

    loop.shutdown_default_executor = shutdown  # type: ignore[method-assign, assignment]
    say("main ends")


async def asyncgen_shutdown() -> None:
    """The main task is done; an async generator takes its time to close."""

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            say("closing")
            asyncio.get_running_loop().call_later(0.01, say, "ready")
            await asyncio.sleep(3600)

    kept.append(numbers())
    await kept[0].__anext__()
    say("main ends")


kept: list[AsyncIterator[int]] = []


def again(loop: asyncio.AbstractEventLoop) -> None:
    """After the interrupt the loop can be used and closed."""
    say(f"again: {loop.run_until_complete(asyncio.sleep(0.001, 'works'))}")
    loop.close()


def plain_idle_loop(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(say, "ready")
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
    again(loop)


def plain_callback(loop: asyncio.AbstractEventLoop) -> None:
    def spin() -> None:
        say("ready")
        while True:
            pass

    loop.call_soon(spin)
    loop.call_soon(say, "the callback after it")
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
    again(loop)


def plain_busy_loop(loop: asyncio.AbstractEventLoop) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns == 100:
            say("ready")
        loop.call_soon(turn)

    loop.call_soon(turn)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
        turns = 100
    loop.close()


def plain_own_handler(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    loop.call_soon(say, "ready")
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGINT)
    say("stopped")
    again(loop)


def main(scenario: str, loop_name: str) -> None:
    factory = loops.factory(loop_name)
    program = globals()[scenario]
    if scenario.startswith("plain_"):
        program(factory())
    else:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(program())
    say("end")


if __name__ == "__main__":
    main(*sys.argv[1:])
