"""The exception handler: who is called, with what, in which context, and when it fails itself."""

import asyncio
import contextlib
import contextvars
import logging
import socket
import sys
from typing import Any

import pytest
from loops import Factory
from recorder import CALLBACKS, next_turns

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def plain_loop(loop_factory: Factory) -> Any:
    """A loop that keeps its default handler."""
    loop = loop_factory()
    yield loop
    loop.close()


def run_failing_callback(loop: Loop) -> None:
    def failing() -> None:
        raise ValueError("in a callback")

    loop.call_soon(failing)
    loop.run_until_complete(asyncio.sleep(0))


def test_default_handler_logs(plain_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    assert plain_loop.get_exception_handler() is None
    run_failing_callback(plain_loop)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.ERROR)
    assert record.getMessage().startswith("Exception in callback ")
    assert "failing" in record.getMessage()
    # Log handlers group by the text before formatting.
    assert (record.msg, record.args) == (record.getMessage(), ())
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


def test_a_percent_sign_in_a_report_is_one(
    plain_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    plain_loop.call_exception_handler({"message": "disk is 100% full, %s and %(all)s"})
    (record,) = caplog.records
    assert record.getMessage() == "disk is 100% full, %s and %(all)s"


def test_the_handler_gets_loop_and_context(plain_loop: Loop) -> None:
    calls: list[Any] = []

    def handler(loop: Loop, context: dict[str, Any]) -> None:
        calls.append((loop, sorted(context)))

    plain_loop.set_exception_handler(handler)
    assert plain_loop.get_exception_handler() is handler
    run_failing_callback(plain_loop)
    assert calls == [(plain_loop, ["exception", "handle", "message"])]
    plain_loop.set_exception_handler(None)
    assert plain_loop.get_exception_handler() is None


def test_only_callables(plain_loop: Loop) -> None:
    with pytest.raises(TypeError, match="A callable object or None is expected, got "):
        plain_loop.set_exception_handler("spam")  # type: ignore[arg-type]


def test_a_context_of_ones_own(plain_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    plain_loop.call_exception_handler({"message": "mine", "zebra": 1, "apple": 2})
    text = caplog.records[0].getMessage()
    assert text.splitlines() == ["mine", "apple: 2", "zebra: 1"]
    plain_loop.call_exception_handler({})
    assert caplog.records[1].getMessage() == "Unhandled exception in event loop"


def test_default_handler_can_be_called_by_the_own_one(
    plain_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    plain_loop.set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
    run_failing_callback(plain_loop)
    assert len(caplog.records) == 1


def test_a_handler_that_fails(plain_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    def handler(loop: Loop, context: dict[str, Any]) -> None:
        raise KeyError("the handler itself")

    plain_loop.set_exception_handler(handler)
    run_failing_callback(plain_loop)
    (record,) = caplog.records
    assert "Unhandled error in exception handler" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
    # Its traceback tells both.
    assert isinstance(record.exc_info[1], KeyError)
    assert isinstance(record.exc_info[1].__context__, ValueError)


class Failing(asyncio.Protocol):
    """Fails in one of its callbacks."""

    def __init__(self, method: str) -> None:
        setattr(self, method, self.fail)

    def fail(self, *_: Any) -> None:
        raise KeyError("original")


@pytest.mark.parametrize("place", ["callback", "done callback", *CALLBACKS])
def test_the_exception_is_being_handled_meanwhile(plain_loop: Loop, place: str) -> None:
    """So that `logging.exception()` in a handler shows it, and what is raised has it as context."""
    seen: list[Any] = []

    def handler(loop: Loop, context: dict[str, Any]) -> None:
        seen.append((context["exception"], sys.exc_info()[1]))

    def fail(*_: Any) -> None:
        raise KeyError("original")

    async def main() -> None:
        future = plain_loop.create_future()
        if place == "callback":
            plain_loop.call_soon(fail)
            await next_turns(2)
        elif place == "done callback":
            future.add_done_callback(fail)
            future.set_result(None)
            await next_turns(2)
        else:
            await fail_in_protocol()
        assert sys.exc_info()[1] is None

    async def fail_in_protocol() -> None:
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        transport, _ = await plain_loop.connect_accepted_socket(lambda: Failing(place), ours)
        transport.set_write_buffer_limits(0)
        transport.write(b"x" * 3_000_000)
        peer.send(b"x")
        if place == "eof_received":
            peer.shutdown(socket.SHUT_WR)
        elif place == "connection_lost":
            transport.abort()
        while not seen:
            with contextlib.suppress(BlockingIOError):
                peer.recv(1 << 20)
            await asyncio.sleep(0)
        transport.abort()
        await next_turns(2)
        peer.close()

    plain_loop.set_exception_handler(handler)
    plain_loop.run_until_complete(main())
    ((reported, handled),) = seen
    assert handled is reported
    assert isinstance(handled, KeyError)


def test_what_is_handled_outside_the_loop_stays_so(plain_loop: Loop) -> None:
    """Also where the loop runs within a generator, which has a place of its own for it."""
    outside, inside = LookupError("outside"), LookupError("inside")

    def run() -> Any:
        run_failing_callback(plain_loop)
        yield sys.exc_info()[1]
        try:
            raise inside
        except LookupError:
            run_failing_callback(plain_loop)
            yield sys.exc_info()[1]
        yield sys.exc_info()[1]

    plain_loop.set_exception_handler(lambda *_: None)
    running = run()
    try:
        raise outside
    except LookupError:
        assert next(running) is outside
        assert next(running) is inside
        assert sys.exc_info()[1] is outside
    assert next(running) is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exits_pass_through_the_handler(plain_loop: Loop, kind: type[BaseException]) -> None:
    def handler(loop: Loop, context: dict[str, Any]) -> None:
        raise kind()

    plain_loop.set_exception_handler(handler)
    with pytest.raises(kind):
        run_failing_callback(plain_loop)
    plain_loop.set_exception_handler(None)
    plain_loop.run_until_complete(asyncio.sleep(0))


def test_the_handler_may_be_overridden_in_a_subclass(loop_factory: Factory) -> None:
    base = type(loop_factory())
    calls: list[str] = []

    class Own(base):  # type: ignore[misc, valid-type]
        def default_exception_handler(self, context: dict[str, Any]) -> None:
            calls.append(type(context["exception"]).__name__)

    loop = Own()
    run_failing_callback(loop)
    loop.close()
    assert calls == ["ValueError"]


def test_an_overridden_call_exception_handler_is_used(plain_loop: Loop) -> None:
    calls: list[str] = []
    plain_loop.call_exception_handler = (  # type: ignore[method-assign]
        lambda context: calls.append(type(context["exception"]).__name__)
    )
    run_failing_callback(plain_loop)
    assert calls == ["ValueError"]


async def test_context_of_the_failing_callback(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, "callback")
    loop.call_soon(lambda: 1 // 0, context=context)
    await next_turns(1)
    assert seen == ["callback" if sys.version_info >= (3, 12) else "none"]


async def test_a_timer_and_a_reader_that_fail(loop: Loop, errors: list[dict[str, Any]]) -> None:
    import socket

    ours, peer = socket.socketpair()
    peer.send(b"x")

    def failing_reader() -> None:
        loop.remove_reader(ours)
        raise KeyError("reader")

    loop.add_reader(ours, failing_reader)
    loop.call_later(0, lambda: 1 // 0)
    await asyncio.sleep(0.01)
    kinds = sorted(type(context["exception"]).__name__ for context in errors)
    assert kinds == ["KeyError", "ZeroDivisionError"]
    assert all(context["message"].startswith("Exception in callback ") for context in errors)
    errors.clear()
    ours.close()
    peer.close()
