"""Hostile objects against every method of every native class: no crash, no hang, nothing lost.

Which combinations run is drawn by lot from `OXLOOP_HOSTILE_SEED` (default 1);
`OXLOOP_HOSTILE_COUNT` says how many. `make asan` runs others under AddressSanitizer.
"""

import inspect
import os

import batches
import calls
import catalogue
import oxloop._oxloop as native
import pytest
import receivers
import selection

COUNT = int(os.environ.get("OXLOOP_HOSTILE_COUNT", "12000"))
SEED = int(os.environ.get("OXLOOP_HOSTILE_SEED", "1"))
PARTS = 8
# The counts and seeds of scripts/test_asan.sh.
ASAN = [(2000, 1), (6000, 7)]


def test_every_native_class_is_attacked() -> None:
    _, missing = receivers.load()
    assert missing == [], "add receivers of these classes to receivers.py"


def test_the_catalogue_is_complete() -> None:
    assert len(catalogue.load()) >= 40
    assert len(selection.choose(2000, SEED)) >= 2000


@pytest.mark.parametrize(("count", "seed"), [(COUNT, SEED), *ASAN])
def test_every_method_is_called(count: int, seed: int) -> None:
    """What is called is counted again while it runs (`batch.run_all`)."""
    chosen = [each for each in selection.choose(count, seed) if each.call.is_proper]
    reached = {(selection.kinds()[each.receiver], each.call.name) for each in chosen}
    wanted = [
        (kind, name)
        for kind in vars(native).values()
        if inspect.isclass(kind) and not issubclass(kind, BaseException)
        for name in calls.methods_of(kind)
    ]
    assert len(wanted) > 500
    missing = [
        f"{kind.__name__}.{name}"
        for kind, name in wanted
        if not any(name == called and issubclass(other, kind) for other, called in reached)
    ]
    assert missing == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_combinations(part: int) -> None:
    total = len(selection.choose(COUNT, SEED))
    first, last = total * part // PARTS, total * (part + 1) // PARTS
    outcome = batches.run_batch(COUNT, SEED, first, last)
    assert outcome.wrong == []
    assert outcome.ran == last - first
