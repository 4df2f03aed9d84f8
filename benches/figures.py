"""The section "Figures" of the README, from samples: `python benches/figures.py SAMPLES.json`.

The samples are those of `report.py --json`, of asyncio, uvloop, oxloop and oxloop-namespace. Prints
the text that belongs between the README's two marks; a benchmark that was not measured has no row.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LOOPS = ("asyncio", "oxloop", "oxloop-namespace")
HEADS = ("asyncio", "oxloop", "namespace")

# Title of a row, by the benchmark's name; the figure is the group's first.
MICRO = {
    "call_soon_chain": "`call_soon`, one after the other",
    "call_later_cancel": "`call_later` and cancel",
    "create_task": "`create_task` and await",
    "sleep0_1task": "`sleep(0)`, one task",
    "sleep0_1000tasks": "`sleep(0)`, 1,000 tasks",
    "future_pingpong": "futures between two tasks",
    "gather_1000": "`gather` of 1,000",
    "taskgroup_100": "TaskGroup of 100",
    "queue": "a queue's `put` and `get`",
    "lock_contended": "a lock that 10 tasks want",
    "wait_for": "`wait_for`",
    "timeout": "`timeout`",
    "readline": "`readline`, 100 bytes",
}
SERVERS = {
    "protocol/1K/10c": "echo by protocol, 1 KiB",
    "protocol/1K/100c": "the same, 100 connections",
    "protocol/1K/1000c": "the same, 1,000 connections",
    "protocol/100K/10c": "the same, 100 KiB",
    "streams/1K/10c": "echo by streams, 1 KiB",
    "streams/100K/10c": "the same, 100 KiB",
    "streams-fresh/100K/10c": "the same, in a new process",
    "sock/1K/10c": "`sock_recv`, `sock_sendall`",
    "tls/1K/10c": "echo over TLS, 1 KiB",
    "tls/100K/10c": "the same, 100 KiB",
    "http/10c": "HTTP by protocol",
    "aiohttp/10c": "aiohttp",
    "uvicorn/10c": "uvicorn",
}


def ratios(document: dict[str, Any], group: str) -> dict[str, list[str]]:
    """For each benchmark of the group the ratios of `LOOPS`, by the group's first table."""
    table = next(table for table in document["tables"] if table["group"] == group)
    found = {}
    for row in table["rows"]:
        by_loop = {cell["loop"]: ratio_text(cell) for cell in row["cells"]}
        found[row["benchmark"]] = [by_loop.get(loop, "-") for loop in LOOPS]
    return found


def ratio_text(cell: dict[str, Any]) -> str:
    """The ratio; in brackets where the rounds did not agree on which of the two is ahead."""
    if cell["ratio"] is None:
        return "-"
    text = f"{cell['ratio']:.2f}"
    return f"({text})" if cell["ratio_min"] < 1 < cell["ratio_max"] else text


def rows(titles: dict[str, str], found: dict[str, list[str]]) -> list[list[str]]:
    return [[title, *found[name]] for name, title in titles.items() if name in found]


def table(first: str, body: list[list[str]]) -> list[str]:
    lines = [[first, *HEADS], ["---"] * (len(HEADS) + 1), *body]
    return ["| " + " | ".join(line) + " |" for line in lines]


def section(document: dict[str, Any]) -> str:
    """The whole text."""
    memory = ratios(document, "memory")
    micro = rows(MICRO, ratios(document, "micro"))
    micro += rows({"connection": "memory of an idle connection"}, memory)
    facts = {key: value for fact in document["facts"] for key, _, value in [fact.partition(": ")]}
    lines = [
        "Ratios to uvloop in interleaved runs of one session, above 1 is better; medians.",
        "*oxloop* is the loop alone, under asyncio's own streams and locks; *namespace* is",
        "`import oxloop as asyncio`.",
        "",
        f"- Machine: {facts.get('machine', '?')}.",
        f"- Software: {facts.get('software', '?')}.",
        f"- Method: {facts.get('method', '?')}.",
        "",
        *table("CPU time per operation", micro),
        "",
        *table(
            "Server CPU time per reply, 10 connections", rows(SERVERS, ratios(document, "macro"))
        ),
        "",
        "Servers scatter by 5 to 10 % from run to run; most of their time is the kernel's. Where a",
        "figure is below 1, uvloop is ahead; where it is in brackets, the rounds did not agree.",
        "[benches/README.md](benches/README.md) tells how this is measured.",
    ]
    return "\n".join(lines)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    print(section(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
