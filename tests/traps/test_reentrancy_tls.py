"""Random writes, closes and pauses from inside every callback of connections over TLS.

Each seed is one connection. Both ends act in each of their callbacks, on their own transport or on
the other's, and the driver acts between turns. The callbacks must come in the order that is
promised, nothing may be delivered while reading is paused or after an end closed, and what arrives
must be a beginning of what was written.
"""

import asyncio
import random
import ssl
from itertools import product
from typing import Any

import pytest
from loops import Factory
from recorder import CALLBACKS, Recorder, next_turns
from tls_peer import client_context, server_context, socket_pair

SIZES = [0, 1, 100, 16_384, 40_000, 300_000, 1 << 20]
SEEDS = 150
PATTERN = bytes(range(251)) * 8400


class OwnObject(ssl.SSLObject):
    """A program's own class of connections."""


class Acting(Recorder):
    """Does something in every callback, as the seed wills, until its actions are used up."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice = dice
        self.other: Acting = self
        self.left = 40
        self.written = 0
        self.paused = False
        self.ended = False

    def act(self) -> None:
        """Do a thing to the transport; only the documented refusals may come out."""
        if self.left == 0 or not self.events:
            return
        self.left -= 1
        action = self.dice.choices(
            ["write", "writelines", "pause", "resume", "limits", "eof", "close", "abort"],
            [30, 15, 15, 20, 5, 2, 2, 2],
        )[0]
        match action:
            case "write" | "writelines":
                data = PATTERN[self.written % 251 :][: self.dice.choice(SIZES)]
                if not self.transport.is_closing():
                    self.written += len(data)
                if action == "write":
                    self.transport.write(data)
                else:
                    self.transport.writelines([data[:10], data[10:]])
            case "pause":
                if not self.transport.is_closing():
                    self.paused = True
                    self.transport.pause_reading()
            case "resume":
                self.paused = False
                self.transport.resume_reading()
            case "limits":
                self.transport.set_write_buffer_limits(high=self.dice.choice([0, 1000, 1 << 20]))
            case "eof":
                with pytest.raises(NotImplementedError):
                    self.transport.write_eof()
            case "close":
                self.close()
            case "abort":
                self.abort()

    def abort(self) -> None:
        self.ended = True
        self.transport.abort()

    def close(self) -> None:
        self.transport.close()
        # What had come already was delivered from within, unless the other end was gone before:
        # then resume_reading() may have scheduled it.
        self.ended = self.ended or not self.other.ended

    def data_received(self, data: bytes) -> None:
        assert not self.paused, "data while paused"
        assert not self.ended, "data after close"
        assert self.events[-1] != "eof", "data after the end"
        start = len(self.received) % 251
        assert data == PATTERN[start : start + len(data)], "other data than was written"
        super().data_received(data)


def acts_in(name: str) -> Any:
    original = getattr(Acting, name)

    def callback(self: Acting, *args: Any) -> Any:
        result = original(self, *args)
        for _ in range(self.dice.choice([0, 1, 1, 2])):
            self.dice.choice([self, self, self.other]).act()
        return result

    return callback


for name in CALLBACKS:
    setattr(Acting, name, acts_in(name))


def check_grammar(events: list[str]) -> None:
    """``made (data | pause | resume)* eof? (pause | resume)* lost``, made and lost once."""
    assert events[0] == "made", events
    assert events[-1].startswith("lost"), events
    assert sum(event.startswith("lost") for event in events) == 1, events
    assert events.count("made") == 1 and events.count("eof") <= 1, events
    flow = [event for event in events if event in ("pause", "resume")]
    assert all(one != two for one, two in zip(flow, flow[1:], strict=False)), events
    assert not flow or flow[0] == "pause", events


async def one_connection(seed: int, server: ssl.SSLContext, client: ssl.SSLContext) -> int:
    """Live through one connection; the number of bytes that arrived."""
    loop = asyncio.get_running_loop()
    dice = random.Random(seed)
    one, two = Acting(dice), Acting(dice)
    one.other, two.other = two, one
    ours, theirs = socket_pair()
    results = await asyncio.gather(
        loop.connect_accepted_socket(lambda: one, ours, ssl=server),
        loop.create_connection(lambda: two, sock=theirs, ssl=client, server_hostname="localhost"),
        return_exceptions=True,
    )
    for result in results:
        # An end may be gone before the other has done its handshake.
        assert isinstance(result, (tuple, ConnectionError, ssl.SSLError)), result
    for _ in range(30):
        dice.choice([one, two]).act()
        await asyncio.sleep(0)
    for end in dice.sample([one, two], 2):
        if end.events:
            end.paused = False
            end.transport.resume_reading()
            dice.choice([end.close, end.abort])()
            await next_turns(dice.choice([0, 1, 10]))
    for end in (one, two):
        if end.events:
            end.abort()
            await end.lost
    await next_turns(3)
    for end in (one, two):
        if end.events:
            check_grammar(end.events)
            assert len(end.received) <= end.other.written
    return len(one.received) + len(two.received)


def random_actions(loop_factory: Factory) -> None:
    loop = loop_factory()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    arrived = 0
    for own, seed in product([False, True], range(SEEDS)):
        server, client = server_context(), client_context()
        if own:
            server.sslobject_class = client.sslobject_class = OwnObject
        connection = one_connection(seed, server, client)
        try:
            arrived += loop.run_until_complete(asyncio.wait_for(connection, 20))
            assert errors == []
        except BaseException as error:
            error.add_note(f"seed {seed}, own class {own}, reported {errors}")
            raise
    loop.close()
    assert arrived > SEEDS * 100_000, arrived


def test_random_actions_in_every_callback(in_child: Any, loop_name: str) -> None:
    if loop_name == "asyncio":
        pytest.skip(
            "asyncio's TLS calls methods of None once the connection is lost or closed twice"
        )
    in_child(random_actions)
