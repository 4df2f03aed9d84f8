"""One batch of combinations, in a process of its own: ``batch.py COUNT SEED FIRST LAST PROGRESS``.

Runs the combinations FIRST to LAST (exclusive) of those that COUNT and SEED choose; with
``batch.py only NUMBER PROGRESS`` that single one. Before each it writes its name to the file
PROGRESS, so that a crash or a hang names it. The last line of its output is a JSON object:
how many ran, and what is wrong.

After a batch nothing may be left: the descriptors are those of the beginning, and the collector
finds no loop, task, future, handle or transport.
"""

import asyncio
import collections
import faulthandler
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence

import calls
import oxloop
import oxloop._oxloop as native
import selection
from combination import Combination, Violation, run
from world import World

HANG_S = 30
NAME_BYTES = 200


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def left_over() -> list[str]:
    """The native objects that are still alive after a collection, by class."""
    for _ in range(3):
        gc.collect()
    # A loop that closes lets go of what is kept to be used again (`ffi/spare.rs`), such as the
    # coroutine of an `async with` that the collector ended.
    oxloop.EventLoop().close()
    kinds = tuple(kind for kind in vars(native).values() if isinstance(kind, type))
    alive = collections.Counter(
        type(item).__name__ for item in gc.get_objects() if issubclass(type(item), kinds)
    )
    return [f"{count} {name} left over" for name, count in sorted(alive.items())]


def run_all(chosen: Sequence[Combination], begin: Callable[[Combination], None]) -> list[str]:
    """Run combinations; returns what is wrong, one line each. `begin` is told before each.

    What they are to use is used: where a hostile object ended the loop before the call could be
    made, others of the same call run, in the fixed order of all.
    """
    wrong = []
    for combination in chosen:
        begin(combination)
        wrong += _run_one(combination)
    missing = {selection.use_of(each) for each in chosen if each.call.is_proper} - calls.DONE
    for way in selection.ways() if missing else ():
        for combination in way:
            if not way.call.is_proper or selection.use_of(combination) not in missing:
                break
            begin(combination)
            wrong += _run_one(combination)
            missing -= calls.DONE
    return wrong + [f"never done: {use}" for use in sorted(missing)]


def _run_one(combination: Combination) -> list[str]:
    """What is wrong with one."""
    try:
        run(combination)
    except Violation as violation:
        return [f"{combination}: {violation}"]
    except BaseException as error:
        return [f"{combination}: the check itself failed: {type(error)} {error!r:.300}"]
    return []


def main(arguments: list[str]) -> None:
    progress = os.open(arguments[-1], os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    if arguments[0] == "only":
        number = int(arguments[1])
        chosen = [selection.numbered(number)]
    else:
        count, seed, first, last = (int(argument) for argument in arguments[:4])
        chosen = selection.choose(count, seed)[first:last]

    def begin(which: Combination) -> None:
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        os.pwrite(progress, str(which).ljust(NAME_BYTES)[:NAME_BYTES].encode(), 0)

    # What is imported or made once must not count as left over.
    run(Combination(0, "stream_open", calls.Call("write", "get"), "Dots"))
    before = descriptors()
    wrong = run_all(chosen, begin)
    os.pwrite(progress, "after the last".ljust(NAME_BYTES).encode(), 0)
    left = left_over()
    if descriptors() != before:
        left.append(f"{descriptors()} descriptors are open, there were {before}")
    # A last loop after all of them.
    world = World(0)
    world.run(asyncio.sleep(0.001))
    world.end()
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"ran": len(chosen), "wrong": wrong + left}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    faulthandler.enable()
    logging.getLogger("asyncio").addHandler(logging.NullHandler())
    logging.getLogger("asyncio").propagate = False
    main(sys.argv[1:])
