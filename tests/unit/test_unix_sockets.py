"""Unix sockets: connections, servers, abstract names, paths of every kind, left-over files."""

import asyncio
import os
import pathlib
import socket
import stat
import sys
from typing import Any

import pytest
from loops import Factory
from recorder import Recorder

Loop = asyncio.AbstractEventLoop


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def talk(loop: Loop, path: Any) -> None:
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    assert isinstance(transport, asyncio.Transport)
    transport.write(b"hello")
    assert await protocol.wait_received(5) == b"hello"
    transport.close()
    await protocol.lost


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fsencode])
async def test_paths(loop: Loop, tmp_path: pathlib.Path, kind: Any) -> None:
    path = kind(str(tmp_path / "socket"))
    server = await loop.create_unix_server(Echo, path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert server.sockets[0].family == socket.AF_UNIX
    await talk(loop, path)
    server.close()


async def test_abstract_names(loop: Loop) -> None:
    name = f"\0oxloop-test-{os.getpid()}-{id(loop)}"
    server = await loop.create_unix_server(Echo, name)
    transport, protocol = await loop.create_unix_connection(Recorder, name)
    assert transport.get_extra_info("peername") == name.encode()
    transport.close()
    await protocol.lost
    await talk(loop, name)
    server.close()


async def test_the_path_is_removed_as_this_python_does(loop: Loop, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "socket"
    server = await loop.create_unix_server(Echo, path)
    server.close()
    assert path.exists() is (sys.version_info < (3, 13))


async def test_a_left_over_socket_is_replaced(loop: Loop, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    server = await loop.create_unix_server(Echo, path)
    await talk(loop, path)
    server.close()


async def test_a_file_in_the_way(loop: Loop, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a socket")
    with pytest.raises(OSError, match="is already in use"):
        await loop.create_unix_server(Echo, path)
    assert path.read_text() == "not a socket"


async def test_nobody_listens(loop: Loop, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "bound"))
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, str(tmp_path / "bound"))


async def test_given_sockets(loop: Loop, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    server = await loop.create_unix_server(Echo, sock=listening)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    transport, protocol = await loop.create_unix_connection(Recorder, sock=client)
    transport.write(b"given")
    assert await protocol.wait_received(5) == b"given"
    transport.close()
    await protocol.lost
    server.close()


async def test_bad_arguments(loop: Loop) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        calls: list[tuple[Any, str]] = [
            (loop.create_unix_connection(Recorder), "no path and sock were specified"),
            (
                loop.create_unix_connection(Recorder, "p", sock=unix),
                "path and sock can not be specified at the same time",
            ),
            (loop.create_unix_connection(Recorder, sock=tcp), "A UNIX Domain Stream Socket"),
            (loop.create_unix_server(Recorder), "path was not specified, and no sock"),
            (
                loop.create_unix_server(Recorder, "p", sock=unix),
                "path and sock can not be specified at the same time",
            ),
            (loop.create_unix_server(Recorder, sock=tcp), "A UNIX Domain Stream Socket"),
        ]
        for call, text in calls:
            with pytest.raises(ValueError, match=text):
                await call
        with pytest.raises(ValueError, match="you have to pass server_hostname"):
            await loop.create_unix_connection(Recorder, "p", ssl=True)


async def test_streams(loop: Loop, tmp_path: pathlib.Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    path = tmp_path / "socket"
    server = await asyncio.start_unix_server(serve, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"line\n")
    assert await reader.read() == b"line\n"
    writer.close()
    await writer.wait_closed()
    server.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_closed_loop_serves_nobody(
    loop: Loop, loop_factory: Factory, loop_name: str, tmp_path: pathlib.Path
) -> None:
    """On oxloop nothing of the attempt stays."""
    other = loop_factory()
    other.close()
    path = tmp_path / "socket"
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        await other.create_unix_server(Echo, path)
    if loop_name == "oxloop" and sys.version_info >= (3, 13):
        assert not path.exists()
