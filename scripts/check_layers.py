"""Hold the edges of the architecture, so that its map stays true.

    python scripts/check_layers.py [ROOT]

The rules stand in the tables below: what the sources of a layer must not name, in code (comments
and strings do not count), and what no file of the project may contain. Beyond the tables, the
dependency tree of oxloop-core is free of Python, and no two test modules share a name (pytest
imports those outside packages by their bare name, and collects neither when two are one).

Each finding is one line, `file:line: rule: why`. Exit status 1 when there is any.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath

LINES_MAX = 600

CORE = "crates/oxloop-core/src"
PY = "crates/oxloop-py/src"


@dataclass(frozen=True)
class Rule:
    """What files must not contain.

    `files` and `but` are patterns of paths from the root; `*` also matches slashes. `pattern` is
    a regular expression; with `code_only` it does not see comments and strings.
    """

    name: str
    files: tuple[str, ...]
    but: tuple[str, ...]
    pattern: str
    why: str
    code_only: bool = True


def uses(*modules: str, crate: str = "crate") -> str:
    """A pattern for a path into one of the modules: `crate::a`, also within `crate::{b, a}`."""
    return rf"\b{crate}::(?:\{{[^;]*?\b)?(?:{'|'.join(modules)})\b"


def module(folder: str, *names: str) -> tuple[str, ...]:
    """The files of modules: `name.rs` and everything in the folder `name`."""
    return tuple(f"{folder}/{name}{end}" for name in names for end in (".rs", "/*.rs"))


RULES = (
    Rule(
        "system calls",
        ("crates/*/src/*.rs",),
        (f"{CORE}/sys/*", *module(CORE, "driver")),
        r"\b(?:libc|rustix|nix)\b\s*::|\b(?:use|extern\s+crate)\s+(?:libc|rustix|nix)\b",
        "libc is named only in oxloop-core's sys/ and driver/",
    ),
    Rule(
        "unsafe",
        ("crates/*/src/*.rs",),
        (f"{CORE}/sys/*", f"{PY}/ffi/*", f"{PY}/ffi.rs"),
        r"\bunsafe\b",
        "unsafe code lives in oxloop-core's sys/ and oxloop-py's ffi/",
    ),
    Rule(
        "Python in the core",
        (f"{CORE}/*.rs",),
        (),
        r"\bpyo3\b",
        "oxloop-core knows nothing of Python",
    ),
    Rule(
        "a concrete driver",
        module(CORE, "stream", "tls", "listener", "connect", "datagram"),
        (),
        r"\bdriver::(?:\{[^;]*?\b)?(?:epoll|uring|sim)\b",
        "the streams see ops and completions, never a certain driver",
    ),
    Rule(
        "tasks and bytes",
        module(PY, "task", "future", "handle", "context"),
        (),
        "|".join(
            (
                uses("transport", "protocol", "server", "streams?"),
                uses("stream", "listener", "Stream\\w*", "Listener", crate="oxloop_core"),
            )
        ),
        "task, future and handle know nothing of streams and transports",
    ),
    Rule(
        "bytes and tasks",
        module(PY, "transport", "protocol"),
        (),
        uses("task"),
        "transports and protocols know nothing of tasks",
    ),
    Rule(
        "paths of a machine",
        ("*",),
        (),
        r"(?<![\w.$}*])/(?:work|root|tmp|home/\w+)/",
        "no file names a folder of somebody's machine",
        code_only=False,
    ),
)

# Written by programs, or not text.
UNCHECKED = ("*.lock", "*.svg", "*.png", "LICENSE-*", "py.typed")

_NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|r(#+)".*?"\1|"(?:\\.|[^"\\])*"|'
    r"'(?:\\[^\n']+|[^\\\n'])'",
    re.S,
)


def code_of(text: str) -> str:
    """Rust source with comments, strings and characters blanked; the lines stay where they are."""
    return _NOT_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def findings_in(path: str, text: str) -> Iterator[str]:
    """What is wrong with one file, a line a finding.

    Args:
        path: the path from the root of the project, with slashes.
        text: the contents of the file.
    """
    lines = text.count("\n") + (not text.endswith("\n"))
    if lines > LINES_MAX:
        yield f"{path}:{LINES_MAX + 1}: too long: {lines} lines, a file has at most {LINES_MAX}"
    code = None
    for rule in RULES:
        if not matches(path, rule.files) or matches(path, rule.but):
            continue
        if rule.code_only and code is None:
            code = code_of(text)
        searched = code if rule.code_only and code is not None else text
        for found in re.finditer(rule.pattern, searched):
            line = searched.count("\n", 0, found.start()) + 1
            yield f"{path}:{line}: {rule.name}: {rule.why}"


def python_in_tree(tree: str) -> Iterator[str]:
    """Packages of Python in the output of `cargo tree --prefix none`."""
    for line in tree.splitlines():
        name = line.partition(" ")[0]
        if name.startswith(("pyo3", "python", "cpython")):
            yield f"crates/oxloop-core/Cargo.toml:1: Python in the core: it depends on {name}"


def shared_names(names: list[str]) -> Iterator[str]:
    """Test modules that pytest can't collect in one run, for their name is another's too.

    Args:
        names: the paths of the project's files, from its root, with slashes.
    """
    packages = {str(PurePath(name).parent) for name in names if name.endswith("/__init__.py")}
    first: dict[str, str] = {}
    for name in names:
        path = PurePath(name)
        if path.match("test_*.py") and str(path.parent) not in packages:
            known = first.setdefault(path.name, name)
            if known != name:
                yield f"{name}:1: a shared name: {known} has it, pytest imports only one of them"


def project_files(root: Path) -> list[str]:
    """The project's files: those that git has or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return sorted({name for name in listed.stdout.splitlines() if (root / name).is_file()})


def cargo_tree(root: Path) -> str:
    """Everything that oxloop-core is built from."""
    command = ["cargo", "tree", "-p", "oxloop-core", "-e", "normal,build", "--prefix", "none"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    found: list[str] = []
    try:
        names = project_files(root)
        found += python_in_tree(cargo_tree(root))
    except subprocess.CalledProcessError as error:
        print(f"check_layers: {' '.join(error.cmd)}: {error.stderr.strip()}", file=sys.stderr)
        return 1
    found += shared_names(names)
    checked = 0
    for name in names:
        if matches(name, UNCHECKED):
            continue
        try:
            text = (root / name).read_text()
        except UnicodeDecodeError:
            continue
        checked += 1
        found += findings_in(name, text)
    for line in found:
        print(line)
    print(f"check_layers: {checked} files, {len(found)} findings")
    if not checked:
        print("check_layers: no files were found to check", file=sys.stderr)
    return 1 if found or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
