"""Interleaved rounds: every benchmark on every loop, again and again.

Facts that shape it: a machine's speed drifts over minutes (clock rates, neighbours of a virtual
machine), so figures taken one loop after the other compare moments, not loops. Within a round a
benchmark is run on all the loops back to back, and which loop comes first rotates with the round
and the benchmark.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from macro.measure import Failure
from plan import Benchmark


@dataclass
class Results:
    """What the rounds have given.

    `samples[benchmark][loop][round]` holds the figures by metric; `failures[benchmark][loop]` the
    reason of the last failure. `interrupted` says that rounds are missing.
    """

    samples: dict[str, dict[str, dict[int, dict[str, float]]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    interrupted: bool = False

    def figures(self, benchmark: str, loop: str, metric: str) -> dict[int, float]:
        """The figures of one metric by round; empty if a round of it has failed."""
        if loop in self.failures.get(benchmark, {}):
            return {}
        rounds = self.samples.get(benchmark, {}).get(loop, {})
        return {number: figures[metric] for number, figures in rounds.items()}


class Progress:
    """One line on standard error: overwritten on a terminal, a line per step elsewhere."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._begun = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def step(self, text: str) -> None:
        """Shows the step that begins."""
        left = ""
        if self._done:
            each_s = (time.monotonic() - self._begun) / self._done
            left_s = each_s * (self._steps - self._done)
            left = f", {left_s // 60:.0f}:{left_s % 60:02.0f} left"
        self._done += 1
        line = f"[{self._done}/{self._steps}{left}] {text}"
        if self._is_terminal:
            print(f"\r{line:<79.79}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Shows a line that stays."""
        print(("\r" + " " * 79 + "\r" if self._is_terminal else "") + text, file=sys.stderr)

    def end(self) -> None:
        """Leaves the line."""
        if self._is_terminal:
            print(file=sys.stderr)


def run_rounds(chosen: list[Benchmark], loops: list[str], rounds: int) -> Results:
    """Measures `rounds` rounds; on Ctrl-C gives what there is.

    A benchmark that has failed on a loop is not tried again on it.
    """
    results = Results()
    progress = Progress(len(chosen) * len(loops) * rounds)
    try:
        for number in range(rounds):
            for index, benchmark in enumerate(chosen):
                first = (number + index) % len(loops)
                for loop in loops[first:] + loops[:first]:
                    name = benchmark.full_name
                    progress.step(f"round {number + 1}/{rounds} {name} {loop}")
                    if loop in results.failures.get(name, {}):
                        continue
                    try:
                        figures = benchmark.measure(loop)
                    except Failure as failure:
                        progress.note(f"FAILED {name} on {loop}: {failure}")
                        results.failures.setdefault(name, {})[loop] = str(failure)
                        continue
                    by_loop = results.samples.setdefault(name, {})
                    by_loop.setdefault(loop, {})[number] = figures
    except KeyboardInterrupt:
        results.interrupted = True
    progress.end()
    return results
