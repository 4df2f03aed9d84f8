"""`oxloop.StreamReader`: what it returns, raises and keeps, compared with asyncio's own reader."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import oxloop
import pytest

Loop = asyncio.AbstractEventLoop
Reader = asyncio.StreamReader

LIMIT = 8
MULTIPLE_SEPARATORS = hasattr(asyncio, "QueueShutDown")  # 3.13 and later


class Transport:
    """Counts nothing, remembers whether it was paused last."""

    paused = False

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcome(make: Callable[[], Any]) -> Any:
    """The result, or what the exception says."""
    try:
        return await make()
    except asyncio.IncompleteReadError as error:
        return ("incomplete", error.partial, error.expected, str(error))
    except asyncio.LimitOverrunError as error:
        return ("overrun", error.consumed, str(error))
    except asyncio.CancelledError:
        return "cancelled"
    except Exception as error:
        return (type(error), str(error), type(error.__context__))


def program(seed: int) -> list[tuple[Any, ...]]:
    """A random life of a reader: one read at a time, bytes, pauses, an end."""
    chance = random.Random(seed)
    steps: list[tuple[Any, ...]] = []
    for _ in range(chance.randint(5, 30)):
        kind = chance.randint(0, 9)
        if kind < 4:
            steps.append(("feed", bytes(chance.choices(b"ab\n", k=chance.randint(0, 9)))))
        elif kind < 5:
            steps.append(("cancel",))
        elif kind < 6 and chance.random() < 0.3:
            steps.append(("eof",) if chance.random() < 0.7 else ("fail",))
        else:
            steps.append(chance.choice(READS))
    return steps


READS: list[tuple[Any, ...]] = [
    ("read", 0),
    ("read", 1),
    ("read", 3),
    ("read", 100),
    ("readexactly", 0),
    ("readexactly", 2),
    ("readexactly", 5),
    ("readexactly", 3 * LIMIT),
    ("readline",),
    ("readuntil",),
    ("readuntil", b"ab"),
    ("readuntil", b"\n\n"),
    ("readuntil", b"aba"),
    ("readuntil", b"a"),
    ("readexactly", -1),
    ("readuntil", b""),
    ("__anext__",),
]
if MULTIPLE_SEPARATORS:
    READS += [
        ("readuntil", (b"ab", b"\n")),
        ("readuntil", (b"bba", b"ba")),
        ("readuntil", ()),
    ]


async def trace(make: Callable[..., Reader], steps: list[tuple[Any, ...]]) -> list[Any]:
    """Everything that can be seen from outside while `steps` are done."""
    reader: Any = make(limit=LIMIT)
    transport = Transport()
    reader.set_transport(transport)
    seen: list[Any] = []
    pending: asyncio.Task[Any] | None = None
    ended = False
    for name, *arguments in steps:
        if name == "feed":
            if not ended:
                reader.feed_data(arguments[0])
        elif name == "eof":
            reader.feed_eof()
            ended = True
        elif name == "fail":
            reader.set_exception(KeyError("over"))
        elif name == "cancel":
            if pending is not None:
                pending.cancel()
        elif pending is None:
            method = getattr(reader, name)
            pending = asyncio.ensure_future(outcome(lambda m=method, a=arguments: m(*a)))
        await turns()
        if pending is not None and pending.done():
            seen.append((name, pending.result()))
            pending = None
        if pending is None:
            seen.append((bytes(reader._buffer), reader.at_eof(), transport.paused, reader._paused))
    if pending is not None:
        pending.cancel()
        seen.append(await pending)
    return seen


@pytest.mark.parametrize("block", range(10))
async def test_same_as_asyncio(loop: Loop, block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        steps = program(seed)
        expected = await trace(asyncio.StreamReader, steps)
        assert await trace(oxloop.StreamReader, steps) == expected, steps


async def test_read_until_the_end(loop: Loop) -> None:
    reader = oxloop.StreamReader(limit=LIMIT)
    transport = Transport()
    reader.set_transport(transport)  # type: ignore[arg-type]
    task = asyncio.ensure_future(reader.read())
    for _ in range(10):
        reader.feed_data(b"0123456789")
        await turns()
        assert not task.done()
        assert not transport.paused
    reader.feed_eof()
    assert await task == b"0123456789" * 10
    assert await reader.read() == b""
    assert reader.at_eof()


async def test_cancelled_read_until_the_end_loses_nothing(loop: Loop) -> None:
    reader = oxloop.StreamReader(limit=LIMIT)
    task = asyncio.ensure_future(reader.read())
    await turns()
    reader.feed_data(b"a" * 100)
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reader.feed_eof()
    assert await reader.read() == b"a" * 100


@pytest.mark.parametrize("read", ["readexactly", "readline", "readuntil"])
async def test_a_task_is_woken_once(loop: Loop, read: str) -> None:
    reader = oxloop.StreamReader()
    arguments: dict[str, Any] = {"readexactly": (100,), "readline": (), "readuntil": (b"\r\n",)}
    task = asyncio.ensure_future(getattr(reader, read)(*arguments[read]))
    await turns()
    waiter = reader._waiter
    assert waiter is not None
    for _ in range(49):
        reader.feed_data(b"ab")
        assert reader._waiter is waiter
        assert not waiter.done()
    reader.feed_data(b"\r\n")
    assert reader._waiter is None
    assert waiter.done()
    assert await task == b"ab" * 49 + b"\r\n"


async def test_what_was_received_is_handed_on(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    first, second = bytes(bytearray(b"x" * 1000)), bytes(bytearray(b"y" * 2000))
    reader.feed_data(first)
    reader.feed_data(second)
    assert await reader.readexactly(1000) is first
    assert await reader.read(10_000) is second


async def test_what_the_caller_changes_is_copied(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    data = bytearray(b"abc")
    reader.feed_data(data)
    data[:] = b"xyz"
    reader.feed_data(memoryview(b"def"))
    assert await reader.read(10) == b"abcdef"


async def test_two_readers_at_once_are_refused(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    task = asyncio.ensure_future(reader.read(1))
    await turns()
    with pytest.raises(RuntimeError, match=r"readuntil\(\) called while another coroutine is"):
        await reader.readline()
    with pytest.raises(RuntimeError, match=r"^readexactly\(\) called"):
        await reader.readexactly(1)
    reader.feed_data(b"a")
    assert await task == b"a"


async def test_another_read_may_take_what_woke_the_first(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    first = asyncio.ensure_future(reader.readuntil(b"--"))
    await turns()
    reader.feed_data(b"line\n--")
    assert await reader.readline() == b"line\n"
    assert await first == b"--"


async def test_data_after_the_end_is_refused(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    reader.feed_eof()
    with pytest.raises(AssertionError, match="feed_data after feed_eof"):
        reader.feed_data(b"a")


async def test_wrong_arguments(loop: Loop) -> None:
    for make in (asyncio.StreamReader, oxloop.StreamReader):
        reader: Any = make()
        reader.feed_data(b"abc")
        for wrong in (lambda r: r.read("1"), lambda r: r.readexactly(None), lambda r: r.read(1.5)):
            with pytest.raises(TypeError):
                await wrong(reader)
        for separator in ("a", 1, [b"a"]):
            with pytest.raises(TypeError):
                await reader.readuntil(separator)
        with pytest.raises(TypeError):
            reader.read(1, 2)
        with pytest.raises(TypeError):
            reader.read(m=1)
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            make(limit=0)
        with pytest.raises(TypeError):
            make(limit="1")
        assert await reader.read(n=10**30) == b"abc"


async def test_separators_on_every_version(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    reader.feed_data(b"a\r\nb\nc\rd")
    separators = (b"\r\n", b"\n", b"\r")
    assert await reader.readuntil(separators) == b"a\r"
    assert await reader.readuntil(separators) == b"\n"
    assert await reader.readuntil((b"\r\n", bytearray(b"\n"))) == b"b\n"
    assert await reader.readuntil(memoryview(b"\r")) == b"c\r"


async def test_iteration(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    reader.feed_data(b"one\ntwo\n\nrest")
    reader.feed_eof()
    assert [line async for line in reader] == [b"one\n", b"two\n", b"\n", b"rest"]


async def test_a_reader_is_asyncios(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    assert isinstance(reader, asyncio.StreamReader)
    assert issubclass(oxloop.StreamReader, asyncio.StreamReader)
    assert asyncio.iscoroutine(coroutine := reader.readline())
    assert coroutine.__qualname__ == "StreamReader.readline"
    coroutine.close()
    asyncio.StreamReader.feed_data(reader, b"abc")
    assert await reader.read(2) == b"ab"
    assert await asyncio.StreamReader.read(reader, 2) == b"c"
    assert reader._loop is loop
    assert repr(reader) == "<StreamReader>"


async def test_the_buffer_of_programs_that_look_at_it(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    buffer: Any = reader._buffer
    assert not buffer
    assert len(buffer) == 0
    reader.feed_data(b"abc\ndef")
    assert len(buffer) == 7
    assert buffer
    assert buffer == b"abc\ndef"
    assert b"abc\ndef" == buffer
    assert buffer.find(b"\n") == 3
    assert buffer.startswith(b"def", 4)
    assert bytes(buffer[1:3]) == b"bc"
    assert b"\n" in buffer
    assert b"".join(bytes([byte]) for byte in buffer) == b"abc\ndef"
    del buffer[:4]
    assert await reader.read(1) == b"d"
    buffer.extend(b"g")
    buffer += b"h"
    assert repr(buffer) == "bytearray(b'efgh')"
    reader._buffer = bytearray(b"new\n")
    assert await reader.readline() == b"new\n"
    reader.feed_data(b"x")
    buffer.clear()
    reader.feed_eof()
    assert reader.at_eof()


async def test_bytes_taken_from_the_buffer_do_not_mislead_a_waiting_read(loop: Loop) -> None:
    reader = oxloop.StreamReader()
    task = asyncio.ensure_future(reader.readuntil(b"END"))
    await turns()
    reader.feed_data(b"0123456789")
    reader._buffer.clear()
    reader.feed_data(b"END")
    assert await task == b"END"


async def test_subclasses_change_the_methods_that_others_are_built_on(loop: Loop) -> None:
    class Loud(oxloop.StreamReader):
        async def readuntil(self, separator: Any = b"\n") -> bytes:
            return (await super().readuntil(separator)).upper()

        async def read(self, n: int = -1) -> bytes:
            data = await super().read(n)
            return data if n == -1 else data.upper()

    reader = Loud(limit=4)
    reader.feed_data(b"ab\nc")
    assert await reader.readline() == b"AB\n"
    reader.feed_data(b"d\nef")
    assert await anext(aiter(reader)) == b"CD\n"
    reader.feed_eof()
    assert await reader.readline() == b"ef"
    reader = Loud(limit=4)
    reader.feed_data(b"abcdef")
    reader.feed_eof()
    assert await reader.read() == b"ABCDEF"


async def test_replaced_methods_of_one_reader_and_of_the_class(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    reader = oxloop.StreamReader()
    protocol = oxloop.StreamReaderProtocol(reader)
    protocol.data_received(b"a")
    with monkeypatch.context() as patch:
        patch.setattr(oxloop.StreamReader, "feed_data", lambda self, data: seen.append(data))
        protocol.data_received(b"b")
    protocol.data_received(b"c")
    reader.feed_data = seen.append  # type: ignore[method-assign]
    protocol.data_received(b"d")
    assert seen == [b"b", b"d"]
    assert await reader.read(10) == b"ac"


async def test_a_transport_that_cannot_be_paused_is_forgotten(loop: Loop) -> None:
    class Unpausable:
        def pause_reading(self) -> None:
            raise NotImplementedError

    reader = oxloop.StreamReader(limit=1)
    reader.set_transport(Unpausable())  # type: ignore[arg-type]
    reader.feed_data(b"abcdef")
    assert reader._transport is None
    assert await reader.read(10) == b"abcdef"


async def test_readers_are_freed(loop: Loop) -> None:
    gc.collect()
    gc.disable()
    try:
        reader = oxloop.StreamReader()
        reader.feed_data(b"abc")
        await reader.read(2)
        task = asyncio.ensure_future(reader.readexactly(10))
        await turns()
        task.cancel()
        await turns()
        dead = weakref.ref(reader)
        del reader, task
        assert dead() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("namespace", [asyncio, oxloop], ids=["asyncio", "oxloop"])
async def test_a_reader_whose_limit_is_none(loop: Loop, namespace: Any) -> None:
    message = "'<=' not supported between instances of 'NoneType' and 'int'"
    for args, kwargs in [((None,), {}), ((), {"limit": None}), ((None, loop), {})]:
        with pytest.raises(TypeError, match=message):
            namespace.StreamReader(*args, **kwargs)
    assert namespace.StreamReader(loop=loop)._limit == 2**16
