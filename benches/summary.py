"""From rounds to figures: medians, ratios to the reference loop, and whether the bars are met.

A ratio is that of the medians, turned so that above 1 is better than the reference. Its spread is
the least and the greatest ratio within one round, where both loops were measured next to each
other: when the spread reaches across 1, the rounds do not tell the two loops apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from plan import GROUPS, Benchmark, Metric
from rounds import Results

# The loop that the bars are for, and the one that they compare it with.
JUDGED_LOOP = "oxloop"
REFERENCE_LOOP = "uvloop"

# The least ratio to uvloop: full name of a benchmark -> (metric, ratio).
BARS = {
    "micro/call_soon_chain": ("cpu_ns", 2.5),
    "micro/call_later_cancel": ("cpu_ns", 3.0),
    "micro/create_task": ("cpu_ns", 5.0),
    "micro/sleep0_1task": ("cpu_ns", 2.5),
    "micro/sleep0_1000tasks": ("cpu_ns", 2.0),
    "micro/future_pingpong": ("cpu_ns", 3.0),
    "memory/connection": ("bytes", 1.0),
    "macro/protocol/1K/10c": ("cpu_us", 1.05),
    "macro/protocol/1K/100c": ("cpu_us", 1.08),
}


@dataclass(frozen=True)
class Cell:
    """One loop in one row: None where there is nothing to say."""

    loop: str
    value: float | None = None
    ratio: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Row:
    benchmark: str
    cells: list[Cell]
    bar: str


@dataclass(frozen=True)
class Table:
    metric: Metric
    group: str
    rows: list[Row]


def ratio(metric: Metric, value: float, reference: float) -> float | None:
    """How many times better than the reference; None where either figure allows no ratio."""
    if value <= 0 or reference <= 0:
        return None
    return value / reference if metric.higher_is_better else reference / value


def _cell(results: Results, name: str, metric: Metric, loop: str) -> Cell:
    failure = results.failures.get(name, {}).get(loop)
    figures = results.figures(name, loop, metric.key)
    if failure or not figures:
        return Cell(loop, failure=failure)
    reference = results.figures(name, REFERENCE_LOOP, metric.key)
    value = median(figures.values())
    if not reference:
        return Cell(loop, value)
    in_rounds = [
        found
        for number in figures.keys() & reference.keys()
        if (found := ratio(metric, figures[number], reference[number])) is not None
    ]
    return Cell(
        loop,
        value,
        ratio(metric, value, median(reference.values())),
        min(in_rounds, default=None),
        max(in_rounds, default=None),
    )


def _bar(name: str, metric: Metric, cells: list[Cell]) -> str:
    metric_key, least = BARS.get(name, ("", 0.0))
    if metric_key != metric.key:
        return ""
    wanted = f">= {least:g}"
    cell = next((cell for cell in cells if cell.loop == JUDGED_LOOP), None)
    if cell is None:
        return wanted
    if cell.failure:
        return f"{wanted} not met"
    if cell.ratio is None:
        return f"{wanted} not measured"
    return f"{wanted} {'met' if cell.ratio >= least else 'not met'}"


def tables(results: Results, chosen: list[Benchmark], loops: list[str]) -> list[Table]:
    """A table for each metric of each group that was measured, in the order of the plan."""
    made = []
    for group, metrics in GROUPS.items():
        members = [benchmark for benchmark in chosen if benchmark.group == group]
        for metric in metrics if members else ():
            rows = []
            for benchmark in members:
                name = benchmark.full_name
                cells = [_cell(results, name, metric, loop) for loop in loops]
                rows.append(Row(benchmark.name, cells, _bar(name, metric, cells)))
            made.append(Table(metric, group, rows))
    return made
