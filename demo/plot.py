"""The demo's plot: one panel a metric, a bar a loop, a whisker from the worst to the best round.

Drawn as SVG by hand, since two bars a panel do not need a plotting library. Text is in the reader's
sans-serif font and the colours can be told apart in grey.
"""

from __future__ import annotations

import html
import statistics
from dataclasses import dataclass
from typing import Any

COLOURS = {"asyncio": "#b8bfc9", "oxloop": "#c2410c"}
PANEL_WIDTH, PANEL_HEIGHT, MARGIN, TOP = 214, 260, 24, 64
BAR_WIDTH, BAR_HEIGHT_MAX = 52, 170


@dataclass(frozen=True)
class Metric:
    """A figure that is shown: its name in the results, a title, and which way is better."""

    name: str
    title: str
    digits: int
    more_is_better: bool = False


METRICS = (
    Metric("requests_per_s", "requests per second", 0, more_is_better=True),
    Metric("p50_ms", "latency p50, ms", 2),
    Metric("p99_ms", "latency p99, ms", 2),
    Metric("server_cpu_us", "server CPU per request, µs", 1),
    Metric("client_cpu_us", "client CPU per request, µs", 1),
)


def plot(rounds: dict[str, list[dict[str, Any]]], machine: dict[str, Any]) -> str:
    """Draw the figures of all rounds by loop.

    Args:
        rounds: for each loop the figures of its rounds.
        machine: `cpu`, `kernel` and `python`, for the line below the title.

    Returns:
        The SVG document.
    """
    width = MARGIN * 2 + PANEL_WIDTH * len(METRICS)
    height = TOP + PANEL_HEIGHT + MARGIN
    about = f"{machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(MARGIN, 28, "One unmodified aiohttp program and its clients", "bold", size=16),
        _text(MARGIN, 46, about + "; medians, whiskers from the worst to the best round"),
    ]
    for number, metric in enumerate(METRICS):
        parts += _panel(MARGIN + number * PANEL_WIDTH, metric, rounds)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(left: float, metric: Metric, rounds: dict[str, list[dict[str, Any]]]) -> list[str]:
    values = {loop: [figures[metric.name] for figures in done] for loop, done in rounds.items()}
    scale = BAR_HEIGHT_MAX / (max(map(max, values.values())) or 1)
    bottom = TOP + PANEL_HEIGHT - 34
    better = "more is better" if metric.more_is_better else "less is better"
    parts = [_text(left, TOP + 14, metric.title, "bold"), _text(left, TOP + 28, better)]
    for number, (loop, measured) in enumerate(values.items()):
        middle = statistics.median(measured)
        x = left + 16 + number * (BAR_WIDTH + 24)
        top = bottom - middle * scale
        centre = x + BAR_WIDTH / 2
        parts += [
            f'<rect x="{x}" y="{top:.1f}" width="{BAR_WIDTH}" height="{middle * scale:.1f}"'
            f' fill="{COLOURS[loop]}"/>',
            f'<line x1="{centre}" x2="{centre}" y1="{bottom - max(measured) * scale:.1f}"'
            f' y2="{bottom - min(measured) * scale:.1f}" stroke="#1f2937" stroke-width="1.5"/>',
            _text(centre, bottom + 16, loop, anchor="middle"),
            _text(centre, bottom + 31, f"{middle:.{metric.digits}f}", "bold", anchor="middle"),
        ]
    parts.append(
        f'<line x1="{left}" x2="{left + PANEL_WIDTH - 24}" y1="{bottom}" y2="{bottom}"'
        ' stroke="#1f2937"/>'
    )
    return parts


def _text(
    x: float, y: float, text: str, weight: str = "normal", anchor: str = "start", size: int = 12
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-weight="{weight}" text-anchor="{anchor}"'
        f' font-size="{size}" fill="#1f2937">{html.escape(text)}</text>'
    )
