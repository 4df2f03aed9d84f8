"""What the figures were measured on: without it they mean nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from loops import version_of
from macro.measure import pinned_cpus

# Packages that servers are measured with; httptools decides how uvicorn parses.
_PACKAGES = ("aiohttp", "uvicorn", "httptools")
# A load average above this, before anything is started, means that others use the machine.
QUIET_LOAD_MAX = 0.5


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.machine() or "unknown CPU"


def _packages() -> str:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} absent")
    return ", ".join(found)


def facts(loops: list[str], rounds: int, is_quick: bool) -> list[str]:
    """Lines that say what was measured on what; called before the first benchmark starts."""
    cpus = len(os.sched_getaffinity(0))
    pinned = pinned_cpus()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    libc = " ".join(platform.libc_ver()).strip()
    lines = [
        f"machine: {_cpu_model()}, {cpus} CPUs; {platform.system()} {platform.release()}; {libc}",
        f"software: {python}; {', '.join(map(version_of, loops))}; {_packages()}",
        f"method: {rounds} interleaved rounds{', quick' if is_quick else ''}; "
        + (
            f"server on CPU {pinned[0]}, load generator on CPU {pinned[1]}"
            if pinned
            else "ONE CPU ONLY: server and load generator share it, rates and latencies mislead"
        ),
    ]
    load = os.getloadavg()[0]
    if load > QUIET_LOAD_MAX:
        lines.append(f"NOT QUIET: the load average was {load:.2f} at the start")
    return lines
