"""`oxloop doctor`: what oxloop finds here, and what may keep a program from using it.

Each finding is a name and a value; `--json` prints them as one object with the same names, and
the driver's lines as a list. Nothing here changes anything, and nothing is imported that the
program would not import: uvloop is looked up, not loaded.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import oxloop
from oxloop import _oxloop
from oxloop.cli import USAGE, UsageError
from oxloop.cli.run import BOOT_FOLDER

_IO_URING_SYSCTL = Path("/proc/sys/kernel/io_uring_disabled")
_IO_URING_STATES = {
    "0": "allowed by the kernel setting io_uring_disabled",
    "1": "for privileged processes only (io_uring_disabled=1)",
    "2": "disabled for everybody (io_uring_disabled=2)",
}
_OPEN_FILES_FEW = 4096


def doctor(arguments: list[str]) -> int:
    """Print the findings.

    Args:
        arguments: what follows `oxloop doctor`: nothing or `--json`.

    Raises:
        UsageError: any other argument.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    unknown = [argument for argument in arguments if argument != "--json"]
    if unknown:
        raise UsageError(f"doctor: unknown argument: {unknown[0]}")
    found = findings()
    if arguments:
        print(json.dumps(found, indent=2))
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        lines = value if isinstance(value, list) else [_shown(value)]
        for line_name, line in zip([name] + [""] * len(lines), lines, strict=False):
            print(f"{line_name:{width}}  {line}")
    return 0


def findings() -> dict[str, Any]:
    """All findings by name, in the order in which they are printed."""
    return {
        "oxloop": oxloop.__version__,
        "location": str(Path(oxloop.__file__).parent),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "driver": list(_oxloop.describe_driver()),
        "io_uring setting": _io_uring_setting(),
        "open files": _open_files(),
        "OXLOOP": os.environ.get("OXLOOP"),
        "inherited": _inherited(),
        "asyncio makes": _what_asyncio_makes(),
        "uvloop": _uvloop(),
        "nest_asyncio": _nest_asyncio(),
    }


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def _io_uring_setting() -> str:
    try:
        state = _IO_URING_SYSCTL.read_text().strip()
    except OSError:
        return "this kernel has no setting io_uring_disabled (before 6.6)"
    return _IO_URING_STATES.get(state, f"io_uring_disabled={state}")


def _open_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"at most {_limit(soft)}, can be raised to {_limit(hard)} (ulimit -n)"
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES_FEW:
        text += "; few for a server: each connection needs one"
    return text


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _inherited() -> str:
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(BOOT_FOLDER) in folders and os.environ.get("OXLOOP") == "1":
        return "yes: this process runs under `oxloop run`"
    if str(BOOT_FOLDER) in folders:
        return "no: PYTHONPATH is that of `oxloop run`, but OXLOOP is not 1"
    if os.environ.get("OXLOOP") == "1":
        return "no: OXLOOP=1 without the PYTHONPATH of `oxloop run` has no effect"
    return "no"


def _what_asyncio_makes() -> str:
    loop = asyncio.new_event_loop()
    try:
        kind = type(loop)
        return f"{kind.__module__}.{kind.__qualname__}"
    finally:
        loop.close()


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _uvloop() -> str:
    version = _version_of("uvloop")
    if version is None:
        return "not installed"
    return (
        f"{version} is installed: programs that choose it by themselves "
        "(uvicorn --loop auto, for one) use it instead of oxloop"
    )


def _nest_asyncio() -> str:
    if getattr(asyncio, "_nest_patched", False):
        return "has patched asyncio in this process; it does not work with oxloop's loop"
    names = [name for name in ("nest-asyncio", "nest-asyncio2") if _version_of(name)]
    if names:
        return f"{' and '.join(names)} installed; apply() refuses oxloop's loop"
    return "not installed"
