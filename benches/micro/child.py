"""One measurement in one process: `python benches/micro/child.py LOOP SCENARIO [options]`.

Prints one line of JSON: nanoseconds per operation of the loop's thread (`cpu_ns`) and of the wall
(`wall_ns`), or bytes per object.

The number of operations is doubled until a sample takes as long as asked for, which also warms
caches and the interpreter's specialisation up; then samples are taken and their median given. The
cyclic collector stays on during samples, as in programs, and starts each of them from empty.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

# Run as a script: make benches/ the place that modules are found in, and not this folder, whose
# names must not hide others.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from loops import LoopFactory, factory_of, namespace_of  # noqa: E402
from micro.scenario import Scenario, scenarios  # noqa: E402


def sampled(run: Callable[[int], None], count: int) -> tuple[float, float]:
    """Runs `count` operations once; nanoseconds of this thread's CPU and of the wall, each."""
    gc.collect()
    cpu_begun, wall_begun = time.thread_time_ns(), time.perf_counter_ns()
    run(count)
    cpu_ended, wall_ended = time.thread_time_ns(), time.perf_counter_ns()
    return (cpu_ended - cpu_begun) / count, (wall_ended - wall_begun) / count


def measured(
    run: Callable[[int], None], batch: int, sample_s: float, samples: int
) -> dict[str, float]:
    """Finds a count that takes `sample_s` seconds, then gives the medians over the samples."""
    count = batch
    while True:
        wall_ns = sampled(run, count)[1] * count
        if wall_ns >= sample_s * 1e9 * 0.8:
            break
        # At most tenfold: the first samples are slow, and would give far too small a count.
        factor = min(10.0, max(1.3, sample_s * 1e9 / max(wall_ns, 1)))
        count = max(count + batch, int(count * factor) // batch * batch)
    taken = [sampled(run, count) for _ in range(samples)]
    return {
        "cpu_ns": median(cpu for cpu, _ in taken),
        "wall_ns": median(wall for _, wall in taken),
        "count": count,
    }


def measure(
    scenario: Scenario, factory: LoopFactory, sample_s: float, samples: int
) -> dict[str, float]:
    """The measurement of one scenario on one loop."""
    if scenario.needs == "memory":
        return {"bytes": scenario.run(factory)}
    if scenario.needs == "factory":
        run = scenario.run
        return measured(lambda count: run(factory, count), scenario.batch, sample_s, samples)
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()

        def run_on_loop(count: int) -> None:
            runner.run(scenario.run(loop, count))

        return measured(run_on_loop, scenario.batch, sample_s, samples)


def main() -> None:
    parser = argparse.ArgumentParser(description="One micro benchmark on one loop.")
    parser.add_argument("loop")
    parser.add_argument("scenario", choices=scenarios())
    parser.add_argument("--sample", type=float, default=0.1, help="seconds per sample")
    parser.add_argument("--samples", type=int, default=5)
    args = parser.parse_args()
    scenario = scenarios()[args.scenario]
    scenario.run.__globals__["asyncio"] = namespace_of(args.loop)
    print(json.dumps(measure(scenario, factory_of(args.loop), args.sample, args.samples)))


if __name__ == "__main__":
    main()
