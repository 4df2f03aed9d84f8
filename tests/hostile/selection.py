"""Which combinations there are, and which of them run.

There are some 800,000, so none is made before it is chosen: a `Way` stands for a call of a receiver
with each of many hostile objects, and its combinations are counted, not listed.
"""

import bisect
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import calls
import catalogue
import receivers
from calls import Call, Use
from combination import Combination
from world import World

# With objects that are called back when they are freed or asked.
CALLS_BACK = ("Mischief", "OfDel")


@cache
def kinds() -> dict[str, type]:
    """The class of each receiver."""
    makers, _ = receivers.load()
    found = {}
    for name in sorted(makers):
        world = World(0)
        found[name] = type(makers[name](world))
        world.end()
    return found


def use_of(combination: Combination) -> Use:
    """What of which class it uses."""
    return combination.call.use_of(kinds()[combination.receiver])


class Way:
    """One call of one receiver, with each of these objects: their place in its list, their name."""

    def __init__(
        self, first: int, receiver: str, call: Call, objects: list[tuple[int, str]]
    ) -> None:
        self.first = first
        self.receiver = receiver
        self.call = call
        self.objects = objects

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[Combination]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Combination:
        place, hostile = self.objects[index]
        return Combination(self.first + place, self.receiver, self.call, hostile)

    def part(self, calls_back: bool) -> "Way":
        """The part with objects that call back, or the one with those that do not."""
        those = [each for each in self.objects if each[1].endswith(CALLS_BACK) == calls_back]
        return Way(self.first, self.receiver, self.call, those)


@cache
def ways() -> list[Way]:
    """All of them in a fixed order; a call without a place takes one object."""
    objects = sorted(catalogue.load())
    first = 0
    found = []
    for receiver, kind in kinds().items():
        for call in calls.calls_of(kind):
            those = [name for name in objects if _ends(call, name)]
            if not call.is_attack:
                those = ["Nothing"]
            found.append(Way(first, receiver, call, list(enumerate(those))))
            first += len(those)
    return found


def _ends(call: Call, hostile: str) -> bool:
    """Not the few that take for ever on any loop: every byte of a host is looked up as a host."""
    place = call.positional[call.place] if isinstance(call.place, int) else call.place
    return not (hostile == "LargeBytes" and place == "host")


def numbered(number: int) -> Combination:
    """The combination of this number."""
    way = ways()[bisect.bisect_right([way.first for way in ways()], number) - 1]
    return way[number - way.first]


def choose(count: int, seed: int) -> list[Combination]:
    """At least `count` combinations by lot, as many of each receiver, as far as there are.

    Half of them are with objects that call back when they are freed or asked: it is these that
    find what is half done. In the end come those that are needed to reach every method and every
    attribute of every class, with a hostile object where there is a place for one.
    """
    groups: dict[tuple[str, bool], list[Way]] = {}
    for way in ways():
        # In the order in which the two kinds come up.
        kinds_there = dict.fromkeys(name.endswith(CALLS_BACK) for _, name in way.objects)
        for calls_back in kinds_there:
            groups.setdefault((way.receiver, calls_back), []).append(way.part(calls_back))
    share = -(-count // len(groups))
    lot = random.Random(seed)
    chosen: list[Combination] = []
    for those in groups.values():
        chosen += _draw(those, share, lot)
    return chosen + _choose_missing(chosen, groups.values(), lot)


def _draw(those: Sequence[Way], share: int, lot: random.Random) -> Iterator[Combination]:
    """Some combinations of these ways, each as likely as any other."""
    starts = list(itertools.accumulate((len(way) for way in those), initial=0))
    total = starts.pop()
    for index in lot.sample(range(total), min(share, total)):
        which = bisect.bisect_right(starts, index) - 1
        yield those[which][index - starts[which]]


def _choose_missing(
    chosen: list[Combination], groups: Iterable[list[Way]], lot: random.Random
) -> list[Combination]:
    """One of each use that is not among those chosen."""
    reached = {use_of(each) for each in chosen if each.call.is_proper}
    attacked = {use_of(each) for each in chosen if each.call.is_proper and each.call.is_attack}
    by_use: dict[Use, list[Way]] = {}
    for way in itertools.chain.from_iterable(groups):
        if way.call.is_proper:
            by_use.setdefault(way.call.use_of(kinds()[way.receiver]), []).append(way)
    found = []
    for use, those in by_use.items():
        attacks = [way for way in those if way.call.is_attack]
        if use not in (attacked if attacks else reached):
            found.append(lot.choice(lot.choice(attacks or those)))
    return found
