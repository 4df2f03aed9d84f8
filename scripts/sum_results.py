"""Sum the test results of a folder and print `N passed, N failed, N skipped`.

    python scripts/sum_results.py RESULTS

What counts, by the name of the file:
- `NAME.xml`      junit XML of pytest;
- `NAME.json`     totals as tests/conformance/run.py, oxloop-sim and scripts/mutants.sh write them;
- `NAME.log`      the output of `cargo test`;
- `NAME.skipped`  something that was left out as a whole: one skipped;
- `NAME.status`   the exit status of the step NAME. A step that failed although its results show
                  no failure (it crashed, or did not start) counts as one failed; a step without
                  results of its own (a check, a build) counts as one passed or failed.

Exit status 1 when anything failed or when there is nothing to count.
"""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_CARGO_LINE = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)


@dataclass
class Totals:
    """Numbers of tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Totals) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def totals_of_junit(text: str) -> Totals:
    """Totals of a junit XML file: errors are failures."""
    totals = Totals()
    root = ElementTree.fromstring(text)
    for suite in root.iter("testsuite"):
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        passed = int(suite.get("tests", 0)) - failed - skipped
        totals.add(Totals(passed, failed, skipped))
    return totals


def totals_of_conformance(text: str) -> Totals:
    """Totals of the conformance run's JSON: errors are failures."""
    total = json.loads(text)["total"]
    return Totals(total["passed"], total["failed"] + total["errors"], total["skipped"])


def totals_of_cargo(text: str) -> Totals:
    """Totals of the output of `cargo test`, over all of its programs."""
    totals = Totals()
    for passed, failed, ignored in _CARGO_LINE.findall(text):
        totals.add(Totals(int(passed), int(failed), int(ignored)))
    return totals


def totals_of_skipped(text: str) -> Totals:
    """One skipped, whatever the reason in the file."""
    return Totals(skipped=1)


_READERS = {
    ".xml": totals_of_junit,
    ".json": totals_of_conformance,
    ".log": totals_of_cargo,
    ".skipped": totals_of_skipped,
}


def sum_folder(folder: Path) -> dict[str, Totals]:
    """Totals of each step of a results folder, by the step's name."""
    steps: dict[str, Totals] = defaultdict(Totals)
    unreadable = []
    for path in sorted(folder.iterdir()):
        reader = _READERS.get(path.suffix)
        if reader is None:
            continue
        try:
            steps[path.name.removesuffix(path.suffix)].add(reader(path.read_text()))
        except (ValueError, KeyError, ElementTree.ParseError):
            unreadable.append(path)
    for path in sorted(folder.glob("*.status")):
        name = path.name.removesuffix(".status")
        succeeded = path.read_text().strip() == "0"
        if not succeeded and steps[name].failed == 0:
            steps[name].failed += 1
        elif succeeded and steps[name] == Totals():
            steps[name].passed += 1
    for path in unreadable:
        name = path.name.removesuffix(path.suffix)
        if steps[name].failed == 0:
            steps[name].failed += 1
    return dict(steps)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python scripts/sum_results.py RESULTS", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    steps = sum_folder(folder) if folder.is_dir() else {}
    total = Totals()
    for name, totals in steps.items():
        print(f"{name}: {totals}")
        total.add(totals)
    print(total, flush=True)
    return 1 if total.failed or total == Totals() else 0


if __name__ == "__main__":
    sys.exit(main())
