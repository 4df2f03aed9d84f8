"""Where the native load generator is, and how it is built if it is missing."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent.parent
_NAME = "oxloop-load"


def _newest_source(folder: Path) -> float:
    files = [*folder.glob("src/*.rs"), folder / "Cargo.toml"]
    return max(file.stat().st_mtime for file in files)


@functools.cache
def load_generator() -> Path:
    """The release binary, built by cargo if it is missing or older than its sources.

    It lies in `CARGO_TARGET_DIR`, or `target` of the repository. Raises RuntimeError if cargo is
    absent or fails; cargo's own output goes to standard error.
    """
    target = Path(os.environ.get("CARGO_TARGET_DIR") or _ROOT / "target")
    if not target.is_absolute():
        target = Path.cwd() / target
    binary = target / "release" / _NAME
    if binary.exists() and binary.stat().st_mtime >= _newest_source(_ROOT / "benches" / "load"):
        return binary
    print(f"building {_NAME} (cargo build --release)", file=sys.stderr)
    command = ["cargo", "build", "--release", "--package", _NAME, "--target-dir", str(target)]
    try:
        subprocess.run(command, cwd=_ROOT, check=True, stdout=sys.stderr)
    except FileNotFoundError as error:
        raise RuntimeError("cargo is not installed: the load generator cannot be built") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"cargo build of {_NAME} failed ({error.returncode})") from error
    return binary
