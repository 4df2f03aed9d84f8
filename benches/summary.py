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

# What ratios in the tables are to.
REFERENCE_LOOP = "uvloop"


@dataclass(frozen=True)
class Bar:
    """The least ratio that `loop` must have to `reference`, by the figure `metric`."""

    metric: str
    least: float
    loop: str = "oxloop"
    reference: str = REFERENCE_LOOP


def _namespace(metric: str, least: float, reference: str = REFERENCE_LOOP) -> Bar:
    """A bar for programs that say `import oxloop as asyncio`; the others use asyncio's own code."""
    return Bar(metric, least, "oxloop-namespace", reference)


# By the full name of the benchmark.
BARS = {
    "micro/call_soon_chain": Bar("cpu_ns", 2.5),
    "micro/call_later_cancel": Bar("cpu_ns", 3.0),
    "micro/create_task": Bar("cpu_ns", 5.0),
    "micro/sleep0_1task": Bar("cpu_ns", 2.5),
    "micro/sleep0_1000tasks": Bar("cpu_ns", 2.0),
    "micro/future_pingpong": Bar("cpu_ns", 3.0),
    "memory/connection": Bar("bytes", 1.0),
    "macro/protocol/1K/10c": Bar("cpu_us", 1.05),
    "macro/protocol/1K/100c": Bar("cpu_us", 1.08),
    "micro/gather_1000": _namespace("cpu_ns", 4.0),
    "micro/taskgroup_100": _namespace("cpu_ns", 4.0),
    "micro/wait_100": _namespace("cpu_ns", 4.0),
    "micro/as_completed_100": _namespace("cpu_ns", 4.0),
    "micro/queue": _namespace("cpu_ns", 3.0),
    "micro/lock_contended": _namespace("cpu_ns", 5.0),
    "micro/event": _namespace("cpu_ns", 5.0),
    "micro/wait_for": _namespace("cpu_ns", 4.0),
    "micro/timeout": _namespace("cpu_ns", 4.0),
    "micro/readline": _namespace("cpu_ns", 8.0),
    "micro/run_empty": _namespace("cpu_ns", 1.0, "asyncio"),
    "memory/task": _namespace("bytes", 1.0, "asyncio"),
    "macro/streams/1K/10c": _namespace("cpu_us", 1.45),
    "macro/streams-fresh/100K/10c": _namespace("cpu_us", 2.0),
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
    bar = BARS.get(name)
    if bar is None or bar.metric != metric.key:
        return ""
    wanted = f"{bar.loop} >= {bar.least:g} x {bar.reference}"
    by_loop = {cell.loop: cell for cell in cells}
    judged, reference = by_loop.get(bar.loop), by_loop.get(bar.reference)
    if judged is None or reference is None:
        return wanted
    if judged.failure:
        return f"{wanted} not met"
    found = None
    if judged.value is not None and reference.value is not None:
        found = ratio(metric, judged.value, reference.value)
    if found is None:
        return f"{wanted} not measured"
    return f"{wanted} {'met' if found >= bar.least else 'not met'} ({found:.2f})"


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
