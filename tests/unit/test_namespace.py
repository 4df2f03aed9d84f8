"""`import oxloop as asyncio`: every name of asyncio is there, oxloop's where it has one."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import subprocess
import sys
import typing
from types import ModuleType

import oxloop
import pytest


def test_every_name_of_asyncio_is_exported() -> None:
    assert [name for name in asyncio.__all__ if name not in oxloop.__all__] == []
    star: dict[str, object] = {}
    exec("from oxloop import *", star)
    assert [name for name in asyncio.__all__ if name not in star] == []
    assert star["run"] is oxloop.run
    assert star["Task"] is oxloop.Task
    assert star["CancelledError"] is asyncio.CancelledError


def test_names_beyond_the_list() -> None:
    assert hasattr(oxloop, "TaskGroup")
    assert oxloop.log.logger is asyncio.log.logger
    assert oxloop._get_running_loop is asyncio._get_running_loop
    with pytest.raises(AttributeError, match="module 'oxloop' has no attribute 'nothing'"):
        oxloop.nothing  # noqa: B018


def test_submodules_are_attributes_and_importable() -> None:
    for name, module in vars(asyncio).items():
        if isinstance(module, ModuleType) and module.__name__ == f"asyncio.{name}":
            twin = getattr(oxloop, name)
            assert importlib.import_module(f"oxloop.{name}") is twin
            missing = [public for public in dir(module) if not hasattr(twin, public)]
            assert [public for public in missing if not public.startswith("__")] == []
    assert oxloop.subprocess.PIPE == asyncio.subprocess.PIPE
    assert oxloop.exceptions.TimeoutError is asyncio.TimeoutError
    assert oxloop.tasks.Task is oxloop.Task
    assert oxloop.tasks.sleep is oxloop.sleep
    from oxloop.tasks import sleep  # type: ignore[import-not-found]

    assert sleep is oxloop.sleep


def test_asyncio_itself_is_not_changed() -> None:
    code = """
import asyncio
before = {name: id(value) for name, value in vars(asyncio).items()}
tasks = {name: id(value) for name, value in vars(asyncio.tasks).items()}
import oxloop
assert before == {name: id(value) for name, value in vars(asyncio).items()}
assert tasks == {name: id(value) for name, value in vars(asyncio.tasks).items()}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there is none without a loop from 3.14 on")
@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")
def test_get_event_loop_makes_a_loop_of_ours() -> None:
    code = """
import oxloop as asyncio
loop = asyncio.get_event_loop()
assert type(loop) is asyncio.EventLoop
assert asyncio.get_event_loop() is loop
async def main():
    assert asyncio.get_event_loop() is loop
loop.run_until_complete(main())
loop.close()
asyncio.set_event_loop(None)
try:
    asyncio.get_event_loop()
except RuntimeError as error:
    assert "There is no current event loop" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


def test_the_hints_of_all_public_names_resolve() -> None:
    resolved = []
    for name in oxloop.__all__:
        ours, theirs = getattr(oxloop, name), getattr(asyncio, name, None)
        if not callable(ours):
            continue
        try:
            typing.get_type_hints(theirs)
        except Exception:
            continue
        typing.get_type_hints(ours)
        resolved.append(name)
    assert {"open_connection", "open_unix_connection", "start_unix_server"} <= set(resolved)


@pytest.mark.parametrize("name", ["StreamReader", "StreamWriter", "StreamReaderProtocol", "wait"])
def test_signatures_are_those_of_asyncio(name: str) -> None:
    assert inspect.signature(getattr(oxloop, name)) == inspect.signature(getattr(asyncio, name))
