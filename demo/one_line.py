"""`make demo`, second part: the same program with one line changed.

    python demo/one_line.py [--rounds N] [--seconds S]

Runs demo/desk.py three ways: on asyncio; as it is, on oxloop's loop (`oxloop run`); and with its
line `import asyncio` written as `import oxloop as asyncio`, which makes streams, queues, locks and
task groups native too. The changed copy is results/desk_oxloop.py. The ways take turns; figures
are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from compare import NOISE, RESULTS, DemoError, environment

DESK = Path(__file__).resolve().parent / "desk.py"
CHANGED = RESULTS / "desk_oxloop.py"
WAYS = {
    "asyncio": (str(DESK),),
    "oxloop run": ("-m", "oxloop", "run", str(DESK)),
    "import oxloop as asyncio": (str(CHANGED),),
}


def write_changed_copy() -> None:
    """The program with one line changed, and no other."""
    before = DESK.read_text().splitlines()
    if before.count("import asyncio") != 1:
        raise DemoError(f"{DESK.name} does not import asyncio in one line of its own")
    after = ["import oxloop as asyncio" if line == "import asyncio" else line for line in before]
    RESULTS.mkdir(exist_ok=True)
    CHANGED.write_text("\n".join(after) + "\n")


def run(way: str, seconds: float) -> dict[str, float]:
    """One run of the program; it checks its own answers."""
    command = [sys.executable, *WAYS[way], "--seconds", str(seconds)]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=seconds * 4 + 60
    )
    if ended.returncode:
        raise DemoError(f"{DESK.name} failed ({way}): {ended.stderr.strip()[-2000:]}")
    figures = json.loads(ended.stdout.splitlines()[-1])
    return {
        "orders_per_s": figures["orders"] / figures["seconds"],
        "cpu_us": figures["cpu_s"] / figures["orders"] * 1e6,
    }


def compare(rounds: int, seconds: float) -> None:
    write_changed_copy()
    print("\nan order desk on streams, queues, locks and task groups; one line changed")
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    live = sys.stdout.isatty()
    for number in range(rounds):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            measured[way].append(figures := run(way, seconds))
            text = f"[{number + 1}/{rounds}] {way:24}  {figures['orders_per_s']:8.0f} orders/s"
            print(f"\r\033[K{text}" if live else text, end="" if live else "\n", flush=True)
    print("\r\033[K" if live else "")
    print(f"{'median of the rounds':28}{'orders/s':>12}{'CPU µs/order':>15}    against asyncio")
    base = statistics.median(figures["orders_per_s"] for figures in measured["asyncio"])
    for way, rounds_of in measured.items():
        orders_per_s = statistics.median(figures["orders_per_s"] for figures in rounds_of)
        cpu_us = statistics.median(figures["cpu_us"] for figures in rounds_of)
        ratio = orders_per_s / base
        verdict = "the same" if abs(ratio - 1) < NOISE else f"{ratio:.2f} x"
        print(f"{way:28}{orders_per_s:12.0f}{cpu_us:15.2f}    {verdict}")
    (RESULTS / "one_line.json").write_text(json.dumps(measured, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="One program, one line changed.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="a run")
    given = parser.parse_args()
    try:
        compare(given.rounds, given.seconds)
    except DemoError as error:
        print(f"\nmake demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
