"""Names and addresses: literals, names, errors; nothing goes through the default executor."""

import asyncio
import socket
from typing import Any

import pytest
from loops import Factory

Loop = asyncio.AbstractEventLoop

QUESTIONS: list[tuple[Any, Any, dict[str, Any]]] = [
    ("127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
    ("127.0.0.1", "80", {"type": socket.SOCK_STREAM}),
    (b"127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
    ("127.0.0.1", None, {"type": socket.SOCK_DGRAM}),
    ("127.0.0.1", 80, {}),
    ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP}),
    ("::1", 80, {"type": socket.SOCK_STREAM}),
    ("::1", 80, {"family": socket.AF_INET6, "type": socket.SOCK_STREAM}),
    ("::ffff:127.0.0.1", 80, {"type": socket.SOCK_STREAM}),
    ("0.0.0.0", 0, {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}),
    (None, 0, {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}),
    (None, 80, {"type": socket.SOCK_STREAM}),
    ("localhost", 80, {"type": socket.SOCK_STREAM}),
    ("localhost", "http", {"type": socket.SOCK_STREAM}),
    ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}),
    ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "flags": socket.AI_CANONNAME}),
    ("127.1", 80, {"type": socket.SOCK_STREAM}),
    ("1.2.3", 80, {"type": socket.SOCK_STREAM}),
    ("255.255.255.255", 65535, {"type": socket.SOCK_STREAM}),
]


@pytest.mark.parametrize(("host", "port", "options"), QUESTIONS)
async def test_answers_are_those_of_the_socket_module(
    loop: Loop, host: Any, port: Any, options: dict[str, Any]
) -> None:
    expected = socket.getaddrinfo(host, port, **options)
    answer = await loop.getaddrinfo(host, port, **options)
    assert answer == expected
    for (family, kind, *_), (other_family, other_kind, *_) in zip(answer, expected, strict=True):
        assert type(family) is type(other_family)
        assert type(kind) is type(other_kind)


@pytest.mark.parametrize(
    ("host", "port", "options"),
    [
        ("127.0.0.1", 80, {"family": socket.AF_INET6, "type": socket.SOCK_STREAM}),
        ("::1", 80, {"family": socket.AF_INET, "type": socket.SOCK_STREAM}),
        ("not.a.number", 80, {"flags": socket.AI_NUMERICHOST}),
        ("127.0.0.1", "no-such-service", {"type": socket.SOCK_STREAM}),
        (None, None, {}),
        ("host\0name", 80, {}),
        (5, 80, {}),
        ("127.0.0.1", 80.5, {}),
        ("127.0.0.1", 80, {"type": 99}),
    ],
)
async def test_errors_are_those_of_the_socket_module(
    loop: Loop, host: Any, port: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(Exception) as expected:
        socket.getaddrinfo(host, port, **options)
    with pytest.raises(type(expected.value)) as caught:
        await loop.getaddrinfo(host, port, **options)
    assert caught.value.args == expected.value.args


async def test_getnameinfo(loop: Loop) -> None:
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    for address in (("127.0.0.1", 80), ("::1", 443)):
        answer = await loop.getnameinfo(address, flags)
        assert answer == socket.getnameinfo(address, flags)


async def test_many_at_once(loop: Loop) -> None:
    expected = socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    answers = await asyncio.gather(
        *(loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM) for _ in range(50))
    )
    assert answers == [expected] * 50


async def test_a_cancelled_question_is_harmless(loop: Loop) -> None:
    task = loop.create_task(loop.getaddrinfo("localhost", 80))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert await loop.getaddrinfo("127.0.0.1", 80)


async def test_a_blocked_default_executor_does_not_block_literals(
    loop: Loop, loop_name: str
) -> None:
    """asyncio asks its default executor; oxloop answers literals at once and names elsewhere."""
    import concurrent.futures
    import threading

    release = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    blocked = loop.run_in_executor(None, release.wait)
    questions = [
        loop.create_task(loop.getaddrinfo(host, 80)) for host in ("127.0.0.1", "localhost")
    ]
    if loop_name == "asyncio":
        await asyncio.sleep(0)
        assert not any(question.done() for question in questions)
        release.set()
    await asyncio.wait(questions)
    assert all(question.result() for question in questions)
    release.set()
    await blocked


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None, "localhost"])
async def test_a_closed_loop_answers_nothing(
    loop: Loop, loop_factory: Factory, host: str | None
) -> None:
    other = loop_factory()
    other.close()
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        await other.getaddrinfo(host, 80)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        await other.getnameinfo(("127.0.0.1", 80), numeric)
