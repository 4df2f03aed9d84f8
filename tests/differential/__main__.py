"""python -m differential [--cancel] SEED...   or   SEED..SEED: compare the programs of these seeds.

With --cancel a task of each is cancelled at every step.
"""

import sys

from differential.comparing import check, check_cancels


def main() -> int:
    """Print a report for each program that differs; exit status 1 if there is any."""
    arguments = sys.argv[1:]
    look = check
    if "--cancel" in arguments:
        arguments.remove("--cancel")
        look = check_cancels
    failed = count = 0
    for argument in arguments:
        first, _, last = argument.partition("..")
        for seed in range(int(first), int(last or first) + 1):
            count += 1
            report = look(seed)
            if report is not None:
                failed += 1
                print(report, flush=True)
    print(f"{count} programs, {failed} differ")
    return 1 if failed else 0


sys.exit(main())
