"""Hostile objects against every method of every native class: no crash, no hang, nothing lost.

Which combinations run is drawn by lot from `OXLOOP_HOSTILE_SEED` (default 1);
`OXLOOP_HOSTILE_COUNT` says how many. `make asan` runs others under AddressSanitizer.
"""

import os

import batches
import catalogue
import combination
import pytest
import receivers

COUNT = int(os.environ.get("OXLOOP_HOSTILE_COUNT", "12000"))
SEED = int(os.environ.get("OXLOOP_HOSTILE_SEED", "1"))
PARTS = 8


def test_every_native_class_is_attacked() -> None:
    _, missing = receivers.load()
    assert missing == [], "add receivers of these classes to receivers.py"


def test_the_catalogue_is_complete() -> None:
    assert len(catalogue.load()) >= 40
    assert len(combination.choose(2000, SEED)) >= 2000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_combinations(part: int) -> None:
    total = len(combination.choose(COUNT, SEED))
    first, last = total * part // PARTS, total * (part + 1) // PARTS
    outcome = batches.run_batch(COUNT, SEED, first, last)
    assert outcome.wrong == []
    assert outcome.ran == last - first
