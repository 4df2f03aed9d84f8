"""What can be measured: every benchmark as a name, its metrics, and a way to measure it once."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from macro.case import CASES, Case
from macro.load_generator import load_generator
from macro.measure import Failure, ending, pin_to, pinned_cpus
from macro.measure import measure as measure_case
from micro.scenario import Scenario, scenarios

_CHILD = Path(__file__).resolve().parent / "micro" / "child.py"
# Besides its samples: start-up, calibration, opening thousands of connections.
CHILD_SPARE_S = 60.0


@dataclass(frozen=True)
class Metric:
    """A figure that a group of benchmarks gives; `title` heads its table."""

    key: str
    title: str
    higher_is_better: bool = False


GROUPS: dict[str, tuple[Metric, ...]] = {
    "micro": (
        Metric("cpu_ns", "Micro: CPU time of the loop's thread, ns per operation"),
        Metric("wall_ns", "Micro: wall time, ns per operation"),
    ),
    "memory": (Metric("bytes", "Memory: resident bytes per object"),),
    "macro": (
        Metric("cpu_us", "Servers: CPU time, µs per reply"),
        Metric("replies_per_s", "Servers: replies per second", higher_is_better=True),
        Metric("p50_us", "Servers: median latency, µs"),
        Metric("p99_us", "Servers: 99th percentile latency, µs"),
    ),
}


@dataclass(frozen=True)
class Durations:
    """How long things are measured: seconds, and samples of a micro benchmark per process."""

    sample_s: float
    samples: int
    window_s: float
    warmup_s: float


STANDARD = Durations(sample_s=0.06, samples=5, window_s=1.5, warmup_s=0.3)
QUICK = Durations(sample_s=0.03, samples=3, window_s=0.5, warmup_s=0.2)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; `measure(loop)` gives a figure per metric key, or raises Failure.

    `missing` is the module without which it cannot run, if that is absent.
    """

    group: str
    name: str
    measure: Callable[[str], dict[str, float]]
    missing: str | None = None

    @property
    def full_name(self) -> str:
        return f"{self.group}/{self.name}"


def _measure_scenario(scenario: Scenario, durations: Durations, loop: str) -> dict[str, float]:
    command = [sys.executable, str(_CHILD), loop, scenario.name]
    command += ["--sample", str(durations.sample_s), "--samples", str(durations.samples)]
    # Threads that hand work to each other need more than one CPU.
    alone = scenario.needs != "memory" and scenario.clock == "cpu"
    cpus = pinned_cpus()
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=CHILD_SPARE_S + 3 * durations.samples * durations.sample_s,
            preexec_fn=pin_to(cpus[0] if cpus and alone else None),
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"did not end within {error.timeout:.0f} s") from error
    if child.returncode:
        raise Failure(ending(child.returncode, child.stderr))
    figures: dict[str, float] = json.loads(child.stdout)
    return figures


def _measure_case(case: Case, durations: Durations, loop: str) -> dict[str, float]:
    return measure_case(case, loop, load_generator(), durations.window_s, durations.warmup_s)


def _is_chosen(full_name: str, patterns: list[str]) -> bool:
    for pattern in patterns:
        if any(wildcard in pattern for wildcard in "*?["):
            if fnmatch.fnmatchcase(full_name, pattern):
                return True
        elif pattern in full_name:
            return True
    return not patterns


def benchmarks(durations: Durations, patterns: list[str]) -> list[Benchmark]:
    """The benchmarks whose full name contains, or with wildcards matches, one of `patterns`.

    All of them without patterns; in the order of the report.
    """
    found = []
    for scenario in scenarios().values():
        group = "memory" if scenario.needs == "memory" else "micro"
        measure = partial(_measure_scenario, scenario, durations)
        found.append(Benchmark(group, scenario.name, measure))
    for case in CASES:
        absent = case.module is not None and importlib.util.find_spec(case.module) is None
        measure = partial(_measure_case, case, durations)
        found.append(Benchmark("macro", case.name, measure, case.module if absent else None))
    return [benchmark for benchmark in found if _is_chosen(benchmark.full_name, patterns)]
