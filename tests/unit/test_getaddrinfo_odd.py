"""Odd host names, and a look-up that hangs: results and errors are those of the socket module.

Names that somebody might be asked about have AI_NUMERICHOST, so that no test asks the network; how
a name is encoded does not depend on it.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from loops import Factory
from recorder import Recorder, next_turns

Loop = asyncio.AbstractEventLoop

NUMERIC: dict[str, Any] = {"flags": socket.AI_NUMERICHOST, "type": socket.SOCK_STREAM}
STREAM: dict[str, Any] = {"type": socket.SOCK_STREAM}

LONG: list[Any] = [
    "a" * 63,
    "a" * 64,
    "a" * 64 + ".example",
    "example." + "a" * 64,
    ".".join(["a" * 63] * 4),
    ".".join(["a" * 63] * 5),
    ".".join(["a"] * 200),
    "a" * 10_000,
    b"a" * 64,
    b"a" * 256,
    b"a" * 10_000,
    "ü" * 60,
    "1" * 300,
]
INTERNATIONAL: list[Any] = [
    "bücher.example",
    "BÜCHER.example",
    "straße.example",
    "例え.テスト",
    "xn--bcher-kva.example",
    "xn--",
    "xn--\x80",
    "\u3002",
    "a\u3002b",
    "\ud800",
    "\u202e",
    "\uff0e",
    "ü\0",
    b"b\xfccher.example",
    "bücher.example".encode(),
]
WRONG_NUMBERS: list[Any] = [
    "",
    ".",
    "..",
    "a..b",
    ".a",
    " 127.0.0.1",
    "127.0.0.1 ",
    "127.0.0.1.",
    "127.0.0.1\n",
    "127.0.0.256",
    "0x7f.0x100",
    "08.0.0.1",
    "0x",
    "4294967296",
    "-1",
    "1.2.3.4.5",
    "[::1]",
    "::1%",
    "::1%nowhere",
    ":::",
    "::ffff:1.2.3",
    "1.2.3.4%lo",
    b"\xff",
]
WITH_NUL: list[Any] = [
    "\0",
    b"\0",
    "localhost\0",
    b"localhost\0",
    "local\0host",
    "127.0.0.1\0",
    b"127.0.0.1\0.example",
    "::1\0",
    "0x7f.1\0",
]
NUMBERS: list[Any] = [
    "0x7f.1",
    "0X7F.0.0.1",
    b"0x7f.1",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0",
    "１２７.0.0.1",
    "127．0．0．1",
    "::FFFF:127.0.0.1",
    "0:0:0:0:0:0:0:1",
]


def outcome(answer: Any) -> Any:
    """What is to be compared of an answer or an error."""
    return (type(answer), answer.args) if isinstance(answer, BaseException) else answer


def of_socket_module(host: Any, port: Any, options: dict[str, Any]) -> Any:
    try:
        return outcome(socket.getaddrinfo(host, port, **options))
    except Exception as error:
        return outcome(error)


async def of_loop(loop: Loop, host: Any, port: Any, options: dict[str, Any]) -> Any:
    try:
        return outcome(await loop.getaddrinfo(host, port, **options))
    except Exception as error:
        return outcome(error)


ODD = [*LONG, *INTERNATIONAL, *WRONG_NUMBERS, *WITH_NUL, *NUMBERS]


async def test_odd_names(loop: Loop) -> None:
    for host in ODD:
        assert await of_loop(loop, host, 80, NUMERIC) == of_socket_module(host, 80, NUMERIC), host


async def test_odd_numbers(loop: Loop) -> None:
    for host in NUMBERS:
        answer = await of_loop(loop, host, 80, STREAM)
        assert answer == of_socket_module(host, 80, STREAM), host
        assert isinstance(answer, list), host


async def test_a_name_in_other_letters_is_looked_up_like_any_other(loop: Loop) -> None:
    """IDNA makes ASCII of wide letters."""
    expected = socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    assert await loop.getaddrinfo("ｌｏｃａｌｈｏｓｔ", 80, type=socket.SOCK_STREAM) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "localhost", None])
async def test_odd_ports(loop: Loop, host: str | None) -> None:
    ports: list[Any] = [
        *("80\0", b"80\0", "\0", "80 ", " 80", "+80", "-1", "0x50", "080", "65536", "", b"", "٨٠"),
        *(65536, -1, 1 << 40, -(1 << 40), True, "1" * 300, "\ud800", b"\xff", "http\0", 80.0, ()),
    ]
    for port in ports:
        expected = of_socket_module(host, port, STREAM)
        assert await of_loop(loop, host, port, STREAM) == expected, port


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("a" * 64, UnicodeError),
        ("a" * 64 + ".example", UnicodeError),
        ("a..b", UnicodeError),
        ("local\0host", ValueError),
        ("127.0.0.1\0", ValueError),
        ("\ud800", UnicodeError),
    ],
)
async def test_connecting_and_serving(loop: Loop, host: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await loop.create_connection(Recorder, host, 80)
    with pytest.raises(error):
        await loop.create_server(Recorder, host, 0)
    with pytest.raises(error):
        await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, 80))
    with socket.socket() as sock, pytest.raises(error):
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, 80))


async def test_connecting_to_an_address_in_short(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "0x7f.1", 0)
    address = server.sockets[0].getsockname()
    assert address[0] == "127.0.0.1"
    transport, _ = await loop.create_connection(Recorder, "2130706433", address[1])
    assert transport.get_extra_info("peername") == address
    transport.abort()
    server.close()
    await next_turns(3)


class Hanging:
    """A `socket.getaddrinfo` that answers when it is released."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.entered.release()
        self.release.wait(50)
        self.left.release()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    async def wait_entered(self) -> None:
        while not self.entered.acquire(blocking=False):
            await asyncio.sleep(0.001)


@pytest.fixture
def hanging(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    hanging = Hanging()
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    yield hanging
    hanging.release.set()


async def test_a_look_up_that_hangs_does_not_block_the_loop(loop: Loop, hanging: Hanging) -> None:
    question = loop.create_task(loop.getaddrinfo("hangs.example", 80))
    await hanging.wait_entered()
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    # Numbers need no look-up.
    transport, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    transport.close()
    await client.lost
    server.close()
    await asyncio.sleep(0.01)
    assert not question.done()
    hanging.release.set()
    assert (await question)[0][4] == ("127.0.0.1", 80)


async def test_a_look_up_that_hangs_can_be_cancelled(loop: Loop, hanging: Hanging) -> None:
    question = loop.create_task(loop.getaddrinfo("hangs.example", 80))
    connecting = loop.create_task(loop.create_connection(Recorder, "hangs.example", 80))
    await hanging.wait_entered()
    await hanging.wait_entered()
    for task in (question, connecting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await loop.getaddrinfo("hangs.example", 80)
    assert not hanging.left.acquire(blocking=False)


async def test_many_that_hang(loop: Loop, hanging: Hanging) -> None:
    """More than there are threads; those that are cancelled before they begin never begin."""
    questions = [loop.create_task(loop.getaddrinfo("hangs.example", 80)) for _ in range(200)]
    await hanging.wait_entered()
    for question in questions[1:]:
        question.cancel()
    await asyncio.wait(questions[1:])
    assert all(question.cancelled() for question in questions[1:])
    hanging.release.set()
    assert await questions[0]
    assert await loop.getaddrinfo("hangs.example", 80)


def close_while_a_look_up_hangs(loop_factory: Factory) -> None:
    hanging = Hanging()
    socket.getaddrinfo = hanging
    loop = loop_factory()
    question = loop.create_task(loop.getaddrinfo("hangs.example", 80))
    loop.run_until_complete(hanging.wait_entered())
    question.cancel()
    loop.run_until_complete(asyncio.wait([question]))
    loop.close()
    assert loop.is_closed() and question.cancelled()
    # The late answer finds nobody.
    hanging.release.set()
    assert hanging.left.acquire(timeout=30)
    other = loop_factory()
    assert other.run_until_complete(other.getaddrinfo("hangs.example", 80))
    other.run_until_complete(other.shutdown_default_executor())
    other.close()


def test_close_while_a_look_up_hangs(in_child: Any) -> None:
    assert in_child(close_while_a_look_up_hangs).stderr == ""
