"""Starting programs for the tests of the command line: by `python` and by `oxloop run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 60


def environment(**more: str) -> dict[str, str]:
    """Ours, without what an `oxloop run` around the tests would have left in it."""
    unwanted = ("OXLOOP", "PYTHONASYNCIODEBUG")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | more


def start(command: list[str], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with nothing on stdin."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def oxloop(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`oxloop ARGUMENTS...`"""
    return start([sys.executable, "-m", "oxloop", *arguments], cwd, **more)


def python(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS...`"""
    return start([sys.executable, *arguments], cwd, **more)
