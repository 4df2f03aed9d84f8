"""What type checkers must see of `oxloop`; `make check` runs mypy over it. It is not executed."""

import asyncio
from typing import assert_type

import oxloop
from oxloop._loop import EventLoop
from oxloop._oxloop import Lock, Queue


async def main() -> int:
    queue: oxloop.Queue[str] = oxloop.Queue()
    assert_type(queue, Queue[str])
    queue.shutdown()
    assert_type(await queue.get(), str)
    async with oxloop.Lock() as nothing:
        assert_type(nothing, None)
    assert_type(oxloop.Lock(), Lock)
    assert_type(await oxloop.gather(asyncio.sleep(0, 1), asyncio.sleep(0, "")), tuple[int, str])
    return 1


assert_type(oxloop.run(main(), loop_factory=oxloop.new_event_loop), int)
assert_type(oxloop.new_event_loop(), EventLoop)
assert_type(oxloop.EventLoop(), EventLoop)
with oxloop.Runner(loop_factory=oxloop.EventLoop) as runner:
    assert_type(runner.run(main()), int)
