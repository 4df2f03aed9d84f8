"""What is still pending when the interpreter ends is reported as asyncio reports it.

The loop and its tasks are then collected when nothing can be imported any more; the reports, and
the reprs within them, must not need to. Each program runs on asyncio and with oxloop as asyncio,
and must end with the same status and the same text.
"""

import subprocess
import sys
import textwrap

import pytest

HEAD = """
import NAME as asyncio

async def sleeping():
    await asyncio.sleep(1000)

def turn(times=1):
    for _ in range(times):
        loop.run_until_complete(asyncio.sleep(0))

loop = asyncio.new_event_loop()
"""
PROGRAMS = {
    "a global task": """
        task = loop.create_task(sleeping())
        turn()
        """,
    "a local task": """
        def main():
            task = loop.create_task(sleeping())
            turn()
        main()
        """,
    "a closed loop": """
        task = loop.create_task(sleeping())
        turn()
        loop.close()
        """,
    "an event": """
        async def main():
            await asyncio.Event().wait()
        task = loop.create_task(main())
        turn()
        """,
    "a lock": """
        async def main():
            lock = asyncio.Lock()
            async with lock, lock:
                pass
        task = loop.create_task(main())
        turn()
        """,
    "a condition": """
        async def main():
            condition = asyncio.Condition()
            async with condition:
                await condition.wait()
        task = loop.create_task(main())
        turn()
        """,
    "a timeout": """
        async def main():
            async with asyncio.timeout(1000):
                await sleeping()
        task = loop.create_task(main())
        turn()
        """,
    "a task group": """
        async def main():
            async with asyncio.TaskGroup() as group:
                group.create_task(sleeping())
        task = loop.create_task(main())
        turn(2)
        """,
    "a cleanup that waits": """
        async def main():
            try:
                await sleeping()
            finally:
                print("cleaning")
        task = loop.create_task(main())
        turn()
        """,
    "a task's exception": """
        async def main():
            1 / 0
        task = loop.create_task(main())
        turn()
        """,
    "a future's exception": """
        future = loop.create_future()
        future.set_exception(ValueError("never seen"))
        """,
    "a future's exception, in a cycle": """
        future = loop.create_future()
        future.set_exception(ValueError("never seen"))
        future.itself = future
        """,
}


def outcome(name: str, program: str) -> tuple[int, str, str]:
    code = HEAD.replace("NAME", name) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_same_is_reported(program: str) -> None:
    assert outcome("oxloop", program) == outcome("asyncio", program)
