"""Runs combinations in batches, each in a process of its own, and says what is wrong.

    python tests/hostile/batches.py --count 6000 --seed 1 --jobs 2 [--json FILE]

A batch that crashes or hangs is reported with the combination that ran last and what the process
said; that combination then runs alone, which tells whether it needs what came before it. The rest
of the batch goes on. A panic or a sanitizer's report in the output is a failure, whatever the
status. Exit status 1 if anything is wrong.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

BATCH = Path(__file__).with_name("batch.py")
BATCH_SIZE = 1000
BATCH_TIMEOUT_S = 400
_REPORT = re.compile(r"panicked at|ERROR: AddressSanitizer|Fatal Python error|Timeout \(", re.M)


@dataclass
class Outcome:
    """How many combinations ran, and what is wrong, one text each."""

    ran: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        self.ran += other.ran
        self.wrong += other.wrong


@dataclass(frozen=True)
class _Ended:
    status: int
    said: str
    complained: str
    last: str


def _run(arguments: list[str]) -> _Ended:
    """Run one process of `batch.py` to its end."""
    with tempfile.NamedTemporaryFile() as progress, tempfile.TemporaryFile() as complaints:
        program = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(BATCH), *arguments, progress.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        try:
            said, _ = program.communicate(timeout=BATCH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            program.kill()
            said, _ = program.communicate()
        complaints.seek(0)
        complained = complaints.read().decode(errors="replace")
        return _Ended(program.returncode, said, complained, progress.read().decode().strip())


def _complaint(ended: _Ended) -> str:
    """The part of the output that says what happened."""
    found = _REPORT.search(ended.complained)
    start = max(found.start() - 200, 0) if found else max(len(ended.complained) - 1500, 0)
    return ended.complained[start : start + 4000]


def run_batch(count: int, seed: int, first: int, last: int) -> Outcome:
    """Run the combinations `first` to `last` of a choice."""
    outcome = Outcome()
    while first < last:
        ended = _run([str(number) for number in (count, seed, first, last)])
        if ended.status == 0:
            result = json.loads(ended.said.splitlines()[-1])
            outcome.add(Outcome(result["ran"], result["wrong"]))
            if found := _REPORT.search(ended.complained):
                outcome.wrong.append(f"{found.group()} in {first}:{last}\n{_complaint(ended)}")
            break
        how = f"status {ended.status} at [{ended.last}], batch {count} {seed} {first} {last}"
        number = ended.last.partition(":")[0]
        if not number.isdigit():
            outcome.wrong.append(f"{how}\n{_complaint(ended)}")
            break
        alone = _run(["only", number])
        how += f"; alone it ends with status {alone.status}"
        outcome.wrong.append(f"{how}\n{_complaint(ended)}")
        ran = _place(count, seed, first, last, int(number)) + 1
        outcome.ran += ran
        first += ran
    return outcome


def _place(count: int, seed: int, first: int, last: int, number: int) -> int:
    """How many combinations of the batch come before the one called `number`."""
    import selection

    numbers = [chosen.number for chosen in selection.choose(count, seed)[first:last]]
    # One that stands in for others comes after all of them.
    return numbers.index(number) if number in numbers else len(numbers) - 1


def run_all(count: int, seed: int, jobs: int) -> Outcome:
    """Run (at least) `count` combinations in `jobs` processes at a time."""
    import selection

    total = len(selection.choose(count, seed))
    outcome = Outcome()
    with ThreadPoolExecutor(jobs) as pool:
        starts = range(0, total, BATCH_SIZE)
        ends = [min(start + BATCH_SIZE, total) for start in starts]
        for ended in pool.map(lambda part: run_batch(count, seed, *part), zip(starts, ends)):
            outcome.add(ended)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    outcome = run_all(options.count, options.seed, options.jobs)
    for text in outcome.wrong:
        print(f"WRONG: {text}\n")
    print(f"{outcome.ran} combinations, {len(outcome.wrong)} wrong", flush=True)
    if options.json:
        failed = len(outcome.wrong)
        total = {"passed": outcome.ran - failed, "failed": failed, "errors": 0, "skipped": 0}
        options.json.write_text(json.dumps({"total": total, "wrong": outcome.wrong}))
    return 1 if outcome.wrong or not outcome.ran else 0


if __name__ == "__main__":
    sys.exit(main())
