"""Random programs: trees of statements, written as Python.

A program is a list of tasks, a task is a block, a block is a list of nodes. `render` writes it as
a module that defines `program(aio, loop, log, tasks, variables)`; the same text runs in every
namespace. Trees, not texts, are what is shrunk.

Facts that shape the statements: two timers with the same deadline run in no particular order under
asyncio, so every delay has a fraction of its own, each time anew; `as_completed` goes through a
set, so it gets no two that are done already. Names of tasks and everything else in a trace must not
depend on addresses or on how many helper tasks an implementation makes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from differential.tracing import Setting

# A delay is a whole number of seconds and one of these.
FRACTION_S = 2.0**-26
FRACTIONS = 2**24

DEPTH_MAX = 4


@dataclass
class Node:
    """A statement: its kind, its parameters, the blocks within it."""

    kind: str
    parameters: tuple[object, ...] = ()
    blocks: list[list[Node]] = field(default_factory=list)


@dataclass
class Program:
    """The tasks of a program, what they share, and how it is run."""

    tasks: list[list[Node]]
    setting: Setting
    permits: int
    room: int
    kind_of_queue: str


class Writer:
    """Writes random programs."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = 0

    def number(self) -> int:
        """A number that no other statement of the program has."""
        self.numbers += 1
        return self.numbers

    def delay(self) -> float:
        """A delay in seconds, above 0."""
        return self.chance.randrange(0, 4) + self.chance.randrange(1, FRACTIONS) * FRACTION_S

    def program(self) -> Program:
        chance = self.chance
        return Program(
            tasks=[self.block(0) for _ in range(chance.randrange(2, 9))],
            setting=Setting(chance.random() < 0.25, chance.choice([1.0, 0.125])),
            permits=chance.randrange(1, 3),
            room=chance.randrange(0, 3),
            kind_of_queue=chance.choice(["Queue", "Queue", "LifoQueue", "PriorityQueue"]),
        )

    def block(self, depth: int) -> list[Node]:
        count = self.chance.randrange(1, 5 - min(depth, 3))
        return [self.node(depth) for _ in range(count)]

    def node(self, depth: int) -> Node:
        chance = self.chance
        if depth >= DEPTH_MAX or chance.random() < 0.55:
            kind = chance.choice(SIMPLE)
        else:
            kind = chance.choice(COMPOUND)
        # A number, a delay, a choice, a target, and as many blocks as it takes.
        parameters = (
            self.number(),
            self.delay(),
            chance.randrange(1000),
            chance.randrange(8),
        )
        blocks = [self.block(depth + 1) for _ in range(BLOCKS.get(kind, 0))]
        return Node(kind, parameters, blocks)


# Kinds of statements without blocks, each with its text. Within: `{n}` a number of its own, `{d}`
# a delay in seconds, `{c}` a random number below 1000, `{t}` the number of a task, `{x}` 0 or 1,
# `{o}` and `{p}` tasks that may be awaited.
TEXTS = {
    "log": "log('log', {n})",
    "pause": "await aio.sleep(0)",
    "pauses": "for _ in range({c} % 4): await aio.sleep(0)",
    "sleep": "log('slept', await aio.sleep({d}, {n}))",
    "negative_sleep": "log('slept', await aio.sleep(-1, {n}))",
    "cancel": "log('cancel', {t}, cancel({t}))",
    "cancel_with_message": "log('cancel', {t}, cancel({t}, 'message {n}'))",
    "cancel_later": "loop.call_later({d}, cancel, {t})",
    "cancel_soon": "loop.call_soon(cancel, {t}, 'soon {n}')",
    "cancel_self": "aio.current_task().cancel()",
    "uncancel": "log('uncancel', aio.current_task().uncancel())",
    "cancelling": "log('cancelling', aio.current_task().cancelling())",
    "raise": "raise ProgramError({n})",
    "raise_cancelled": "raise aio.CancelledError('raised {n}')",
    "return": "return {n}",
    "set_event": "events[{x}].set()",
    "clear_event": "events[{x}].clear()",
    "wait_event": "log('event', await events[{x}].wait())",
    "put": "log('put', await queue.put({n}))",
    "get": "log('got', await queue.get())",
    "put_nowait": "queue.put_nowait({n})",
    "get_nowait": "log('got', queue.get_nowait())",
    "task_done": "queue.task_done()",
    "join": "log('joined', await queue.join())",
    "shutdown": "queue.shutdown({c} % 2 == 0)",
    "queue_state": "log('queue', queue.qsize(), queue.full(), str(queue))",
    "acquire": "log('acquired', await lock.acquire())",
    "release": "lock.release()",
    "release_semaphore": "semaphore.release()",
    "acquire_semaphore": "log('permit', await semaphore.acquire())",
    "barrier": "log('barrier', await barrier.wait())",
    "barrier_reset": "log('reset', await barrier.reset())",
    "barrier_abort": "log('abort', await barrier.abort())",
    "states": "log('states', lock.locked(), semaphore._value, barrier.n_waiting)",
    "notify": "condition.notify({c} % 3)",
    "notify_all": "condition.notify_all()",
    "wait_condition": "log('notified', await condition.wait())",
    "wait_condition_for": "log('true', await condition.wait_for(lambda: events[{x}].is_set()))",
    "await_task": "log('awaited', await {o})",
    "await_shielded": "log('shielded', await aio.shield({o}))",
    "wait_for_task": "log('in time', await aio.wait_for({o}, {d}))",
    "wait_for_sleep": "log('in time', await aio.wait_for(aio.sleep(some({c}), {n}), {d}))",
    "wait_for_event": "log('in time', await aio.wait_for(events[{x}].wait(), {d}))",
    "wait_for_get": "log('in time', await aio.wait_for(queue.get(), {d}))",
    "wait_for_now": "log('in time', await aio.wait_for({o}, {c} % 2 - 1))",
    "wait_tasks": (
        "log('wait', *named(await aio.wait([{o}, {p}], timeout={d}, return_when=WHEN[{c} % 3])))"
    ),
    "gather_tasks": (
        "log('gathered', await aio.gather({o}, {p}, aio.sleep(0, {n}),"
        " return_exceptions={c} % 2 == 0))"
    ),
    "as_completed": (
        "for done in aio.as_completed([{o}], timeout={d}): log('completed', await done)"
    ),
    "as_completed_async": (
        "async for done in aio.as_completed([{o}], timeout={d}):"
        " log('completed', done is {o}, outcome(done))"
    ),
    "as_completed_sleeps": (
        "for done in aio.as_completed([aio.sleep({d}, 1), aio.sleep({d} / 2, 2)],"
        " timeout={d} / 2):"
        " log('completed', await done)"
    ),
    "set_future": "futures[{x}].set_result({n})",
    "fail_future": "futures[{x}].set_exception(ProgramError({n}))",
    "cancel_future": "log('cancel', futures[{x}].cancel('future {n}'))",
    "await_future": "log('future', await futures[{x}])",
    "new_future": "futures[{x}] = loop.create_future()",
    "callback": "futures[{x}].add_done_callback(lambda done: log('callback', {n}, outcome(done)))",
    "task_callback": "other({t}).add_done_callback(lambda done: log('done', {n}, outcome(done)))",
    "call_soon": "loop.call_soon(log, 'soon', {n})",
    "call_later": "loop.call_later({d}, log, 'later', {n})",
    "call_and_cancel": "loop.call_later({d}, log, 'never', {n}).cancel()",
    "callback_raises": "loop.call_soon(fail, {n})",
    "set_variable": "variables[{x}].set({n})",
    "new_context": "contexts[{x}] = contextvars.copy_context()",
    "set_in_context": "contexts[{x}].run(variables[{c} % 3 % 2].set, {n})",
    "call_soon_in": "loop.call_soon(log, 'soon', {n}, context=contexts[{x}])",
    "set_soon_in": "loop.call_soon(variables[{c} % 3 % 2].set, {n}, context=contexts[{x}])",
    "call_later_in": "loop.call_later({d}, log, 'later', {n}, context=contexts[{x}])",
    "callback_raises_in": "loop.call_soon(fail, {n}, context=contexts[{x}])",
    "callback_in": (
        "futures[{x}].add_done_callback("
        "lambda done: log('callback', {n}, outcome(done)), context=contexts[{c} % 3 % 2])"
    ),
    "task_callback_in": (
        "other({t}).add_done_callback("
        "lambda done: log('done', {n}, outcome(done)), context=contexts[{x}])"
    ),
    "task_callback_sets": (
        "other({t}).add_done_callback("
        "lambda done: variables[{c} % 3 % 2].set({n}), context=contexts[{x}])"
    ),
    "all_tasks": "log('tasks', len(aio.all_tasks()))",
    "ungathered": "spawned.append(aio.gather(aio.sleep(0), {o}, return_exceptions=True))",
    "bad_yield": "await BadAwaitable()",
}

# Kinds of statements with blocks: the number of blocks, and the lines; `{0}` stands for a block.
FORMS = {
    "lock": (1, ["async with lock:", "{0}"]),
    "semaphore": (1, ["async with semaphore:", "{0}"]),
    "condition": (1, ["async with condition:", "{0}"]),
    "timeout": (
        1,
        ["async with aio.timeout({d}) as scope:", "{0}", "log('expired', scope.expired())"],
    ),
    "timeout_now": (1, ["async with aio.timeout({c} % 2 - 1):", "{0}"]),
    "timeout_moved": (
        1,
        [
            "async with aio.timeout(None) as scope{n}:",
            "    scope{n}.reschedule(loop.time() + {d})",
            "{0}",
            "    log('when', scope{n}.when())",
        ],
    ),
    "group": (
        2,
        [
            "async with aio.TaskGroup() as group{n}:",
            "    async def child{n}():",
            "    {0}",
            "    for number in range(2):",
            "        spawn('child{n}', child{n}, group{n}.create_task)",
            "{1}",
        ],
    ),
    "spawn": (
        2,
        [
            "async def child{n}():",
            "{0}",
            "spawned.append(spawn('child{n}', child{n}, aio.create_task))",
            "if True:",
            "{1}",
        ],
    ),
    "group_in": (
        2,
        [
            "async with aio.TaskGroup() as group{n}:",
            "    async def child{n}():",
            "    {0}",
            "    for number in range(2):",
            "        create = functools.partial(group{n}.create_task, context=context(number))",
            "        spawn('child{n}', child{n}, create)",
            "{1}",
        ],
    ),
    "spawn_in": (
        2,
        [
            "async def child{n}():",
            "{0}",
            "create{n} = functools.partial(aio.create_task, context=context({x}))",
            "spawned.append(spawn('child{n}', child{n}, create{n}))",
            "if True:",
            "{1}",
        ],
    ),
    "eager_child_in": (
        1,
        [
            "async def child{n}():",
            "{0}",
            "spawn('child{n}', child{n}, lambda coroutine, name: aio.Task("
            "coroutine, loop=loop, name=name, eager_start=True, context=context({x}, True)))",
        ],
    ),
    "eager_child": (
        1,
        [
            "async def child{n}():",
            "{0}",
            "spawn('child{n}', child{n}, lambda coroutine, name: aio.Task("
            "coroutine, loop=loop, name=name, eager_start=True))",
        ],
    ),
    "wait_for": (1, ["async def inner{n}():", "{0}", "await aio.wait_for(inner{n}(), {d})"]),
    "shield": (1, ["async def inner{n}():", "{0}", "await aio.shield(inner{n}())"]),
    "gather": (
        2,
        [
            "async def first{n}():",
            "{0}",
            "async def second{n}():",
            "{1}",
            "log('gathered', await aio.gather(first{n}(), second{n}(),"
            " return_exceptions={c} % 2 == 0))",
        ],
    ),
    "try": (2, ["try:", "{0}", "except ProgramError as error:", "    log('caught', error)", "{1}"]),
    "try_all": (
        2,
        ["try:", "{0}", "except Exception as error:", "    log('caught', error)", "{1}"],
    ),
    "try_cancelled": (
        2,
        [
            "try:",
            "{0}",
            "except aio.CancelledError as error:",
            "    log('cancelled', error)",
            "{1}",
            "    if {c} % 2: raise",
        ],
    ),
    "finally": (2, ["try:", "{0}", "finally:", "    log('finally', {n})", "{1}"]),
    "generator": (
        2,
        [
            "async def inner{n}():",
            "{0}",
            "async def generator{n}():",
            "    try:",
            "        for number in range(3):",
            "            yield number",
            "        await inner{n}()",
            "    finally:",
            "        log('generator ends', {n})",
            "        await aio.sleep(0)",
            "        log('generator ended', {n})",
            "async for number in generator{n}():",
            "    log('item', number)",
            "{1}",
            "    if {c} % 3 == number: break",
        ],
    ),
}

SIMPLE = [*TEXTS, "pause", "pause", "pauses", "sleep", "log"]
COMPOUND = list(FORMS)
BLOCKS = {kind: count for kind, (count, _) in FORMS.items()}

HEADER = '''
import contextvars
import functools
import itertools


async def program(aio, loop, log, tasks, variables):
    """tasks: the tasks by name; spawned: what must be awaited in the end."""
    WHEN = [aio.FIRST_COMPLETED, aio.FIRST_EXCEPTION, aio.ALL_COMPLETED]
    lock = aio.Lock()
    condition = aio.Condition(lock)
    semaphore = aio.Semaphore({permits})
    barrier = aio.Barrier(2)
    queue = aio.{kind_of_queue}({room})
    events = [aio.Event(), aio.Event()]
    futures = [loop.create_future(), loop.create_future()]
    contexts = [contextvars.copy_context(), contextvars.copy_context()]
    spawned = []

    def other(number):
        return tasks[f"task{{number % {count}}}"]

    def cancel(number, *message):
        return other(number).cancel(*message)

    def context(number, is_eager=loop.get_task_factory()):
        # An eager task whose context is entered already stays asyncio's current task for ever.
        try:
            contexts[number].run(int)
        except RuntimeError:
            return contexts[number].copy() if is_eager else contexts[number]
        return contexts[number]

    def delay(seconds, calls=itertools.count(1)):
        return seconds + next(calls) * 2.0**-26

    def some(number):
        return delay(number % 4) if number % 4 else 0

    def fail(number):
        raise ProgramError(number)

    def named(sets):
        return [sorted(task.get_name() for task in done) for done in sets]

    def outcome(future):
        return "cancelled" if future.cancelled() else future.exception() or future.result()

    def spawn(name, body, create):
        async def logged():
            log("starts")
            try:
                result = await body()
            except BaseException as error:
                log("raises", error)
                raise
            log("returns", result)
            return result
        while name in tasks:
            name += "'"
        task = create(logged(), name=name)
        tasks[name] = task
        return task
'''

FOOTER = """
    first = spawn("first", lambda: aio.sleep(0, "first"), aio.create_task)
    main = [spawn(f"task{{number}}", body, aio.create_task) for number, body in enumerate(bodies)]
    for future in [*main, *spawned]:
        await aio.wait([future])
    for future in spawned:
        await aio.wait([future])
    log("state", lock.locked(), semaphore._value, barrier.n_waiting, str(queue))
    log("outcomes", [outcome(task) for task in main])
"""


def render(program: Program) -> str:
    """The program as Python."""
    lines = HEADER.format(
        permits=program.permits,
        kind_of_queue=program.kind_of_queue,
        room=program.room,
        count=len(program.tasks),
    ).splitlines()
    for number, block in enumerate(program.tasks):
        lines.append(f"    async def body{number}():")
        lines += render_block(block, 8, number)
    bodies = ", ".join(f"body{number}" for number in range(len(program.tasks)))
    lines.append(f"    bodies = [{bodies}]")
    lines += FOOTER.format().splitlines()
    return "\n".join(lines) + "\n"


def render_block(block: list[Node], indent: int, task: int) -> list[str]:
    """The lines of a block that belongs to the task of this number."""
    lines = [line for node in block for line in render_node(node, indent, task)]
    return lines or [" " * indent + "pass"]


def awaited(number: int, task: int) -> str:
    """A task that the task may await: one before it, so that nobody ever waits in a circle."""
    return f"other({number % task})" if task else "first"


def render_node(node: Node, indent: int, task: int) -> list[str]:
    """The lines of a statement."""
    number, delay, choice, target = node.parameters
    assert isinstance(choice, int) and isinstance(target, int)
    values = {
        "n": number,
        "d": f"delay({delay!r})",
        "c": choice,
        "t": target,
        "x": choice % 2,
        "o": awaited(target, task),
        "p": awaited(choice, task),
    }
    if node.kind in TEXTS:
        return [" " * indent + TEXTS[node.kind].format(**values)]
    lines = []
    for line in FORMS[node.kind][1]:
        stripped = line.lstrip(" ")
        depth = indent + len(line) - len(stripped)
        if stripped in ("{0}", "{1}"):
            lines += render_block(node.blocks[int(stripped[1])], depth + 4, task)
        else:
            lines.append(" " * depth + stripped.format(**values))
    return lines
