"""One combination: a receiver in a state, a call, a hostile object; and what must hold after.

What the call answers is the hostile object's business. It must not crash or hang, and it must not
end in what only a bug of the extension explains: SystemError or a panic. Afterwards the
loop does its work (unless the hostile object closed it), and what was scheduled before has run.
"""

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import Any

import calls
import catalogue
import receivers
from calls import Call
from world import World

# What no hostile object of the catalogue raises: only a bug of the extension would.
_UNEXPLAINED = ("SystemError", "PanicException")

# How long a method that runs the loop may run it.
_RUN_S = 0.002

_TURNS_MAX = 40


class Violation(Exception):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Combination:
    """Which receiver, which call, which hostile object; the number names it for ever."""

    number: int
    receiver: str
    call: Call
    hostile: str

    def __str__(self) -> str:
        return f"{self.number}: {self.receiver} . {self.call} <- {self.hostile}"


def run(combination: Combination) -> None:
    """Carry out one combination; Violation if something does not hold afterwards."""
    world = World(combination.number)
    unraisable: list[Any] = []
    hook, sys.unraisablehook = (
        sys.unraisablehook,
        lambda report: unraisable.append((report.exc_type, report.err_msg)),
    )
    try:
        _attack(world, combination)
        _check_work(world, combination)
    finally:
        world.end()
        sys.unraisablehook = hook
    for error in world.raised:
        _judge(type(error), error)
    for kind, _ in unraisable:
        _judge(kind, None)
    # A destructor that is in a traceback holds its own object.
    for error in world.raised:
        BaseException.with_traceback(error, None)
    world.raised.clear()
    world.reports.clear()


def _judge(kind: Any, error: BaseException | None) -> None:
    """Violation for an error that no hostile object raises."""
    if isinstance(kind, type) and type.__getattribute__(kind, "__name__") in _UNEXPLAINED:
        raise Violation(f"{kind}: {error}")


def _attack(world: World, combination: Combination) -> None:
    maker = receivers.RECEIVERS[combination.receiver]
    world.receiver = maker(world)
    world.place_bystanders()
    world.again = lambda: _do(world, combination, world.receiver, [None])
    # The only reference of ours goes with the call, so that destructors run in the middle of it.
    box = [catalogue.OBJECTS[combination.hostile](world)]
    loop = world.loop

    def attack() -> None:
        target = world.receiver
        with _errors_of(world):
            world.result = _do(world, combination, target, box)
        _use(world)
        # What was stored is replaced, which drops it.
        with _errors_of(world):
            world.again()
        for _ in range(world.random.randrange(3)):
            _attack_again(world, target)

    # Half of the calls come from inside the running loop.
    if combination.number % 2 and not loop.is_closed():
        loop.call_soon(attack)
    else:
        attack()
    for _ in range(3):
        _turn(world)
    world.result = None


def _do(world: World, combination: Combination, target: Any, box: list[Any]) -> Any:
    """Call the receiver; what runs the loop is stopped soon."""
    if combination.call.name in ("run_forever", "run_until_complete"):
        with contextlib.suppress(Exception):
            target.call_later(_RUN_S, target.stop)
    return combination.call.do(target, box, world)


def _attack_again(world: World, target: Any) -> None:
    """Another call of the same receiver with another hostile object, by lot."""
    call = world.random.choice(calls.calls_of(type(target)))
    if call.name.startswith("run_"):
        return
    with _errors_of(world):
        hostile = world.random.choice(sorted(catalogue.OBJECTS))
        world.kept.append(call.do(target, [catalogue.OBJECTS[hostile](world)], world))


def _use(world: World) -> None:
    """Use what the call returned as it is meant to be used."""
    result = world.result
    with _errors_of(world):
        if asyncio.iscoroutine(result):
            if world.loop.is_closed():
                result.close()
            else:
                world.kept.append(world.loop.create_task(_limited(result)))
        elif type(result).__module__.startswith("oxloop") and hasattr(type(result), "__next__"):
            next(result)
            next(result)
        elif isinstance(result, asyncio.Future):
            result.add_done_callback(lambda future: future.cancelled() or future.exception())


async def _limited(coroutine: Any) -> None:
    async with asyncio.timeout(0.01):
        await coroutine


@contextlib.contextmanager
def _errors_of(world: World) -> Any:
    """What comes out of a call is noted, then the combination goes on."""
    try:
        yield
    except BaseException as error:
        world.raised.append(error)


def _turn(world: World) -> None:
    """Let the loop go through some iterations, whatever comes out of it."""
    loop = world.loop
    with _errors_of(world):
        if not loop.is_closed() and not loop.is_running():
            loop.call_soon(loop.stop)
            loop.run_forever()


def _check_work(world: World, combination: Combination) -> None:
    """The bystanders ran, and the loop still does what it is given."""
    loop = world.loop
    if loop.is_closed():
        return
    if loop.is_running():
        raise Violation("the loop still counts as running")
    # A hostile object may have replaced these on the instance, or have put a handler in their way.
    replaced = set(vars(loop)) & {"call_soon", "call_later", "time", "create_task", "stop"}
    if replaced or combination.call.name in ("set_task_factory", "_stopping", "__setattr__"):
        return
    if not world.future.done():
        world.future.set_result(None)
    fresh: list[str] = []
    loop.call_soon(fresh.append, "callback")
    loop.call_soon_threadsafe(fresh.append, "threadsafe")
    loop.call_later(0, fresh.append, "timer")
    wanted = {"callback", "threadsafe", "timer"}
    for _ in range(_TURNS_MAX):
        if set(fresh) == wanted and world.task.done() and len(world.happened) >= 3:
            break
        _turn(world)
        if loop.is_closed():
            return
    if set(fresh) != wanted:
        raise Violation(f"the loop did not do its work: {fresh}")
    if sorted(world.happened) != ["callback", "task", "timer"] and not world.task.cancelled():
        raise Violation(f"work was lost: {world.happened}, {world.task!r}")
