"""Event loops compared: `python benches/report.py --help`; benches/README.md says how to read it.

Exit status: 0 however fast or slow the loops are; 1 if something could not be measured (a loop
failed a benchmark); 2 for bad arguments; 130 after Ctrl-C, with a report of what there is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from loops import is_installed
from machine import facts
from macro.load_generator import load_generator
from plan import QUICK, STANDARD, Benchmark, benchmarks
from rendering import report_markdown, report_text
from rounds import Results, run_rounds
from summary import REFERENCE_LOOP, Table, tables

LOOPS = "asyncio,uvloop,oxloop,oxloop-namespace"
ROUNDS, ROUNDS_QUICK = 4, 2


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; argparse ends the process with status 2 if it is bad."""
    parser = argparse.ArgumentParser(description="Compares event loops in interleaved rounds.")
    parser.add_argument(
        "--loops", default=LOOPS, help=f"names or module:factory, with commas ({LOOPS})"
    )
    parser.add_argument(
        "--rounds", type=int, help=f"how many ({ROUNDS}, with --quick {ROUNDS_QUICK})"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="a part of a benchmark's name, or a pattern with * ? []; commas or repetition add",
    )
    parser.add_argument("--quick", action="store_true", help="short samples: a look, no verdict")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    args = parser.parse_args(words)
    args.loops = list(dict.fromkeys(name for name in args.loops.split(",") if name))
    args.only = [pattern for word in args.only for pattern in word.split(",") if pattern]
    if args.rounds is None:
        args.rounds = ROUNDS_QUICK if args.quick else ROUNDS
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    return args


def _loudly(line: str) -> str:
    print(line, file=sys.stderr)
    return line


def chosen_loops(names: list[str], remarks: list[str]) -> list[str]:
    """The loops that are installed; each absent one gets a remark. Raises ValueError if none."""
    present = []
    for name in names:
        if is_installed(name):
            present.append(name)
        else:
            remarks.append(_loudly(f"SKIPPED loop {name}: its module is not installed here"))
    if not present:
        raise ValueError("none of the loops is installed")
    if REFERENCE_LOOP not in present:
        remarks.append(_loudly(f"NO RATIOS: {REFERENCE_LOOP} is not among the loops measured"))
    return present


def chosen_benchmarks(args: argparse.Namespace, remarks: list[str]) -> list[Benchmark]:
    """The benchmarks to run; each one that cannot run gets a remark. Raises ValueError if none."""
    found = benchmarks(QUICK if args.quick else STANDARD, args.only)
    if not found:
        raise ValueError(f"--only: no benchmark is called like {', '.join(args.only)}")
    able = []
    for benchmark in found:
        if benchmark.missing:
            name, missing = benchmark.full_name, benchmark.missing
            remarks.append(_loudly(f"SKIPPED {name}: {missing} is not installed here"))
        else:
            able.append(benchmark)
    if not able:
        raise ValueError("none of the chosen benchmarks can run here")
    if any(benchmark.group == "macro" for benchmark in able):
        # Built now, so that cargo does not run beside a measurement.
        try:
            load_generator()
        except RuntimeError as error:
            raise ValueError(f"{error}; --only micro,memory does without it") from error
    return able


def as_json(described: list[str], made: list[Table], results: Results, remarks: list[str]) -> str:
    """Every sample, and the tables made of them."""
    document: dict[str, Any] = {
        "facts": described,
        "remarks": remarks,
        "samples": results.samples,
        "failures": results.failures,
        "interrupted": results.interrupted,
        "tables": [dataclasses.asdict(table) for table in made],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    args = parsed()
    remarks: list[str] = []
    try:
        if args.list:
            for benchmark in benchmarks(STANDARD, args.only):
                print(benchmark.full_name)
            return 0
        loops = chosen_loops(args.loops, remarks)
        chosen = chosen_benchmarks(args, remarks)
    except ValueError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    described = facts(loops, args.rounds, args.quick)
    print("\n".join(described), file=sys.stderr)
    results = run_rounds(chosen, loops, args.rounds)
    if results.interrupted:
        remarks.append("INTERRUPTED: not all rounds were run")
    for name, by_loop in results.failures.items():
        remarks += [f"FAILED {name} on {loop}: {reason}" for loop, reason in by_loop.items()]
    made = tables(results, chosen, loops)
    print(report_text(described, made, remarks), end="")
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(report_markdown(described, made, remarks), encoding="utf-8")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(as_json(described, made, results, remarks), encoding="utf-8")
    if results.interrupted:
        return 130
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
