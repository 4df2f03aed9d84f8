"""What run_cpython_tests.py leaves out with `--namespace`, and why.

These tests look at how asyncio's own Python functions are written, not at what they do.
"""

from __future__ import annotations

import sys

_OLD_WAIT_FOR = (
    "the wait_for of 3.11, which makes tasks of its own and loses cancellations (gh-86296); "
    "later versions have no such test, or one that makes the task itself"
)
_FRAMES = "compares the frames of asyncio's own Python functions; native coroutines have none"

# (module, test): first and last minor version of Python, and the reason.
_EXCLUDED = {
    ("test_waitfor", "*.test_wait_for_self_cancellation"): (11, 11, _OLD_WAIT_FOR),
    ("test_futures2", "*.test_recursive_repr_for_pending_tasks"): (11, 11, _OLD_WAIT_FOR),
    ("test_graph", "*.test_stack_as_completed"): (14, 99, _FRAMES),
    ("test_graph", "*.test_stack_as_completed_timeout"): (14, 99, _FRAMES),
    ("test_graph", "*.test_stack_tgroup"): (14, 99, _FRAMES),
    ("test_graph", "*.test_stack_wait"): (14, 99, _FRAMES),
    ("test_graph", "*.test_stack_wait_for_non_positive_timeout"): (14, 99, _FRAMES),
}


def reason(module: str, test: str) -> str | None:
    """Why a test is left out on this version of Python; None if it is not."""
    first, last, why = _EXCLUDED.get((module, test), (0, 0, None))
    return why if first <= sys.version_info[1] <= last else None
