"""python -m differential SEED...   or   SEED..SEED: compare the programs of these seeds."""

import sys

from differential.comparing import check


def main() -> int:
    """Print a report for each program that differs; exit status 1 if there is any."""
    failed = count = 0
    for argument in sys.argv[1:]:
        first, _, last = argument.partition("..")
        for seed in range(int(first), int(last or first) + 1):
            count += 1
            report = check(seed)
            if report is not None:
                failed += 1
                print(report, flush=True)
    print(f"{count} programs, {failed} differ")
    return 1 if failed else 0


sys.exit(main())
