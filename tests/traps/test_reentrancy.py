"""Writes and closes from inside every callback; nothing is delivered after pause or close."""

import asyncio
from itertools import product
from typing import Any

import pytest
from loops import Factory
from recorder import CALLBACKS, Recorder, next_turns, tcp_pair, with_socket

ACTIONS = [
    "write",
    "write_much",
    "writelines",
    "write_eof",
    "close",
    "abort",
    "pause_reading",
    "set_write_buffer_limits",
]

Loop = asyncio.AbstractEventLoop


def act(transport: Any, action: str) -> None:
    """Do one thing to a transport; only the documented refusals may come out."""
    try:
        if action == "write":
            transport.write(b"from inside")
        elif action == "write_much":
            transport.write(b"m" * (1 << 20))
        elif action == "writelines":
            if not transport.is_closing():  # asyncio's own fails on a closed transport
                transport.writelines([b"one", b"two"])
        elif action == "set_write_buffer_limits":
            transport.set_write_buffer_limits(high=0)
        else:
            getattr(transport, action)()
    except (RuntimeError, OSError):
        pass


def acting(name: str, action: str) -> type[Recorder]:
    """A protocol that does `action` inside its callback `name`."""
    original = getattr(Recorder, name)

    def callback(self: Any, *args: Any) -> Any:
        result = original(self, *args)
        if self.acted < 3:
            self.acted += 1
            act(self.transport, action)
        return result

    return type("Acting", (Recorder,), {name: callback, "acted": 0})


def check_grammar(events: list[str]) -> None:
    """``made (data | pause | resume)* eof? (pause | resume)* lost``, made and lost once."""
    assert events[0] == "made", events
    assert events[-1].startswith("lost"), events
    assert sum(event.startswith("lost") for event in events) == 1, events
    assert events.count("made") == 1 and events.count("eof") <= 1, events
    if "eof" in events:
        assert "data" not in events[events.index("eof") :], events
    flow = [event for event in events if event in ("pause", "resume")]
    assert all(one != two for one, two in zip(flow, flow[1:], strict=False)), events
    assert not flow or flow[0] == "pause", events


def every_action_in_every_callback(loop_factory: Factory) -> None:
    loop = loop_factory()
    for name, action in product(CALLBACKS, ACTIONS):
        loop.run_until_complete(asyncio.wait_for(one_action(loop, name, action), 20))
    loop.close()


async def one_action(loop: Loop, name: str, action: str) -> None:
    served, client = await tcp_pair(acting(name, action))
    act(served.transport, "write_much")
    client.transport.write(b"data")
    for _ in range(20):
        await asyncio.sleep(0)
    if client.transport.can_write_eof() and not client.transport.is_closing():
        client.transport.write_eof()
    for _ in range(20):
        await asyncio.sleep(0)
    client.transport.close()
    await client.lost
    served.transport.abort()
    await served.lost
    await next_turns(3)
    check_grammar(served.events)
    check_grammar(client.events)


def test_every_action_in_every_callback(in_child: Any) -> None:
    in_child(every_action_in_every_callback)


@pytest.mark.parametrize("action", ["pause_reading", "close", "abort"])
async def test_nothing_is_delivered_after(loop: Loop, action: str) -> None:
    """Megabytes are waiting in the kernel when the first data_received pauses or closes."""

    class Stopping(Recorder):
        calls = 0

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.calls += 1
            getattr(self.transport, action)()

    served, client = await tcp_pair(Stopping)
    sock = served.transport.get_extra_info("socket")
    client.transport.write(b"x" * (8 << 20))
    while not served.received:
        await asyncio.sleep(0)
    first = len(served.received)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (served.calls, len(served.received)) == (1, first)
    assert first < 8 << 20
    if action == "pause_reading":
        assert sock.fileno() > 0
        served.transport.resume_reading()
        while served.calls < 2:
            await asyncio.sleep(0)
        await next_turns(20)
        assert served.calls == 2
    for each in (served, client):
        each.transport.abort()
        await each.lost
    check_grammar(served.events)


async def test_closing_in_pause_writing_gives_no_resume(loop: Loop) -> None:
    class Closing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.abort()

    transport, protocol, peer = await with_socket(Closing)
    transport.write(b"x" * (8 << 20))
    await protocol.lost
    await next_turns(3)
    assert protocol.events == ["made", "pause", "lost"]
    peer.close()


async def test_echo_through_itself(loop: Loop) -> None:
    """Two protocols that answer every byte: no recursion, however long it goes on."""

    class PingPong(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.received) < 3000:
                self.transport.write(data)

    served, client = await tcp_pair(PingPong, PingPong)
    client.transport.write(b"x")
    await served.wait_received(2999)
    for each in (served, client):
        each.transport.abort()
        await each.lost
