"""`create_connection`: addresses tried in order, happy eyeballs, local address, error texts."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import Recorder

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        yield listening


@pytest.fixture
def refused() -> Iterator[tuple[str, int]]:
    """An address that is taken, so that nobody else gets it, and refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


def resolve_to(loop: Loop, *addresses: tuple[str, int]) -> None:
    """Let every name of this loop resolve to these addresses."""

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in addresses
        ]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]


async def close(protocol: Recorder) -> None:
    protocol.transport.close()
    await protocol.lost


async def test_connected(loop: Loop, listener: socket.socket) -> None:
    transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
    assert isinstance(transport, asyncio.Transport)
    assert protocol.transport is transport
    assert protocol.events == ["made"]
    served, address = listener.accept()
    assert transport.get_extra_info("sockname") == address
    assert transport.get_extra_info("peername") == listener.getsockname()
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    await close(protocol)
    assert protocol.events == ["made", "lost"]
    served.close()


async def test_a_name(loop: Loop, listener: socket.socket) -> None:
    _, protocol = await loop.create_connection(Recorder, "localhost", listener.getsockname()[1])
    await close(protocol)


async def test_refused(loop: Loop, refused: tuple[str, int]) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        await loop.create_connection(Recorder, *refused)
    assert "127.0.0.1" in str(caught.value) and str(refused[1]) in str(caught.value)


async def test_a_refused_first_address_is_passed_over(
    loop: Loop, listener: socket.socket, refused: tuple[str, int]
) -> None:
    resolve_to(loop, refused, listener.getsockname())
    transport, protocol = await loop.create_connection(Recorder, "name", 1)
    assert transport.get_extra_info("peername") == listener.getsockname()
    await close(protocol)


async def test_happy_eyeballs_pass_over_a_refused_address(
    loop: Loop, listener: socket.socket, refused: tuple[str, int]
) -> None:
    resolve_to(loop, refused, listener.getsockname())
    transport, protocol = await loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=10)
    assert transport.get_extra_info("peername") == listener.getsockname()
    await close(protocol)


async def test_happy_eyeballs_do_not_wait_for_a_silent_address(
    loop: Loop, listener: socket.socket
) -> None:
    """A listener with a full queue answers nothing: the second address wins after the delay."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(silent.getsockname())
        fillers.append(filler)
    resolve_to(loop, silent.getsockname(), listener.getsockname())
    async with asyncio.timeout(10):
        transport, protocol = await loop.create_connection(
            Recorder, "name", 1, happy_eyeballs_delay=0.05
        )
    assert transport.get_extra_info("peername") == listener.getsockname()
    await close(protocol)
    for each in (silent, *fillers):
        each.close()


async def test_equal_errors_of_all_addresses_are_one(loop: Loop, refused: tuple[str, int]) -> None:
    resolve_to(loop, refused, refused)
    with pytest.raises(ConnectionRefusedError) as caught:
        await loop.create_connection(Recorder, "name", 1)
    assert not str(caught.value).startswith("Multiple")


async def test_different_errors_are_listed(loop: Loop, refused: tuple[str, int]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        resolve_to(loop, refused, other.getsockname())
        with pytest.raises(OSError, match="^Multiple exceptions: ") as caught:
            await loop.create_connection(Recorder, "name", 1)
    assert str(caught.value).count("Connect call failed") == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors is new in Python 3.12")
async def test_all_errors(loop: Loop, refused: tuple[str, int]) -> None:
    resolve_to(loop, refused, refused)
    with pytest.raises(ExceptionGroup) as caught:
        await loop.create_connection(Recorder, "name", 1, all_errors=True)
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2
    assert caught.value.message == "create_connection failed"


async def test_local_addr(loop: Loop, listener: socket.socket) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    transport, protocol = await loop.create_connection(
        Recorder, *listener.getsockname(), local_addr=("127.0.0.1", port)
    )
    assert transport.get_extra_info("sockname") == ("127.0.0.1", port)
    transport.abort()
    await protocol.lost


async def test_a_taken_local_addr(
    loop: Loop, listener: socket.socket, refused: tuple[str, int]
) -> None:
    with pytest.raises(OSError, match="error while attempting to bind on address"):
        await loop.create_connection(Recorder, *listener.getsockname(), local_addr=refused)


async def test_a_local_addr_of_the_wrong_family(loop: Loop, listener: socket.socket) -> None:
    with pytest.raises(OSError):
        await loop.create_connection(
            Recorder, *listener.getsockname(), local_addr=("::1", 0), family=socket.AF_INET
        )


async def test_given_socket(loop: Loop, listener: socket.socket) -> None:
    sock = socket.create_connection(listener.getsockname())
    sock.setblocking(False)
    transport, protocol = await loop.create_connection(Recorder, sock=sock)
    assert transport.get_extra_info("socket").fileno() == sock.fileno()
    await close(protocol)
    assert sock.fileno() == -1


async def test_bad_arguments(loop: Loop) -> None:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for arguments, text in (
            ({}, "host and port was not specified and no sock specified"),
            (
                {"host": "h", "port": 1, "sock": stream},
                "host/port and sock can not be specified at the same time",
            ),
            ({"sock": datagram}, "A Stream Socket was expected"),
            ({"host": "h", "port": 1, "server_hostname": "x"}, "server_hostname is only"),
            (
                {"host": "h", "port": 1, "ssl_handshake_timeout": 1},
                "ssl_handshake_timeout is only meaningful with ssl",
            ),
            (
                {"host": "h", "port": 1, "ssl_shutdown_timeout": 1},
                "ssl_shutdown_timeout is only meaningful with ssl",
            ),
        ):
            with pytest.raises(ValueError, match=text):
                await loop.create_connection(Recorder, **arguments)  # type: ignore[arg-type]


async def test_no_address(loop: Loop) -> None:
    resolve_to(loop)
    with pytest.raises(OSError, match="getaddrinfo\\(\\) returned empty list"):
        await loop.create_connection(Recorder, "name", 1)


async def test_a_cancelled_connection_leaves_nothing(loop: Loop) -> None:
    started = loop.create_future()

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        started.set_result(None)
        await asyncio.sleep(100)
        raise AssertionError

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
    task = loop.create_task(loop.create_connection(Recorder, "name", 1))
    await started
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_failing_factory(loop: Loop, listener: socket.socket) -> None:
    def factory() -> asyncio.Protocol:
        raise KeyError("no protocol")

    with pytest.raises(KeyError):
        await loop.create_connection(factory, *listener.getsockname())
    served, _ = listener.accept()
    served.settimeout(20)
    assert served.recv(10) == b""
    served.close()


async def test_many_at_once(loop: Loop, listener: socket.socket) -> None:
    listener.listen(128)
    made = await asyncio.gather(
        *(loop.create_connection(Recorder, *listener.getsockname()) for _ in range(50))
    )
    assert len({transport.get_extra_info("sockname") for transport, _ in made}) == 50
    await asyncio.gather(*(close(protocol) for _, protocol in made))
