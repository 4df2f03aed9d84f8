"""What this process holds: memory, descriptors, threads, children."""

import os
import resource
from collections.abc import Sequence
from typing import NamedTuple


class Holdings(NamedTuple):
    """Numbers that must be the same before and after."""

    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> "Holdings":
        """Count."""
        # The list itself needs a descriptor, each time.
        return cls(len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")))


def resident_bytes() -> int:
    """The memory of this process that is in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the straight line that is nearest to the points (least squares)."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def has_children() -> bool:
    """Whether there is a child process, a zombie included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
