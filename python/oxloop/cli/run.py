"""`oxloop run`: become `python PROGRAM ARGS...` with oxloop as its event loop.

Facts: a program sees how it was started in many places: `sys.argv`, `__main__`, `sys.path[0]`,
the frames of a traceback, what `multiprocessing` runs again in a child, the exit status after
Ctrl-C. Running it from within another Python program gets each of them slightly wrong.

Decision: do not imitate. Put the folder `boot` first into PYTHONPATH, set OXLOOP=1 and replace
this process by the interpreter (`execve`), so that everything is as `python` does it. The
`sitecustomize` in `boot` makes asyncio use oxloop, here and in child processes that inherit the
environment. Mistakes that can be seen beforehand are reported before the process is replaced.

What can still go wrong: an interpreter told to ignore the environment (-I, -E) or `site` (-S)
would run the program on asyncio; that is refused. Start-up is paid twice.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

from oxloop.cli import USAGE, CommandError, UsageError

BOOT_FOLDER = Path(__file__).resolve().parent.parent / "boot"


def run(arguments: list[str]) -> int:
    """Replace this process by the program that the arguments name.

    Args:
        arguments: what follows `oxloop run`.

    Returns:
        0 after `--help`; a program that starts does not return here.

    Raises:
        UsageError: no program, or an unknown option.
        CommandError: the program cannot be started.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    program = _program(arguments)
    _check_interpreter()
    # The interpreter's own options (-X dev, -W, -O ...), as multiprocessing hands them on.
    flags: list[str] = list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]
    # It knows some of the -X options only; one that is given twice does no harm.
    for name, value in sys._xoptions.items():
        flags.append(f"-X{name}" if value is True else f"-X{name}={value}")
    if sys.flags.inspect:
        flags.append("-i")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *flags, *program], inherited_environment())


def inherited_environment() -> dict[str, str]:
    """The environment that makes a Python process, and its children, use oxloop."""
    environment = dict(os.environ)
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    boot = str(BOOT_FOLDER)
    kept = [folder for folder in folders if folder and folder != boot]
    environment["PYTHONPATH"] = os.pathsep.join([boot, *kept])
    environment["OXLOOP"] = "1"
    return environment


def _program(arguments: list[str]) -> list[str]:
    """The interpreter's arguments for the program; reports the mistakes that can be seen."""
    if not arguments:
        raise UsageError("run: no program given")
    first, rest = arguments[0], arguments[1:]
    for option, value_name, check in (("-m", "a module", _check_module), ("-c", "code", None)):
        if first.startswith(option):
            value = first[len(option) :] or (rest[0] if rest else None)
            if value is None:
                raise UsageError(f"run: {option} needs {value_name}")
            if check is not None:
                check(value)
            return arguments
    if first == "--":
        if not rest:
            raise UsageError("run: no program given")
        first, arguments = rest[0], rest
        if first.startswith("-"):
            arguments = [os.path.join(os.curdir, first), *rest[1:]]
    elif first.startswith("-") and first != "-":
        raise UsageError(f"run: unknown option: {first}; those of python go before -m oxloop run")
    if first != "-":
        _check_file(first)
    return arguments


def _check_interpreter() -> None:
    if not sys.executable:
        raise CommandError("run: the path of the Python interpreter is not known")
    for flag, option in (("isolated", "-I"), ("ignore_environment", "-E"), ("no_site", "-S")):
        if getattr(sys.flags, flag):
            raise CommandError(f"run: does not work under python {option}")


def _check_module(name: str) -> None:
    """Look for the first part of the name only: finding the rest would import the package."""
    top = name.partition(".")[0]
    saved = list(sys.path)
    # `python -m` looks in the current folder first, unless told otherwise (-P).
    sys.path[:1] = [] if sys.flags.safe_path else [os.getcwd()]
    try:
        found = bool(top) and (top in sys.modules or importlib.util.find_spec(top) is not None)
    except (ImportError, ValueError):
        found = False
    finally:
        sys.path[:] = saved
    if not found:
        raise CommandError(f"run: no module named {name or repr(name)}")


def _check_file(name: str) -> None:
    if not name:
        raise CommandError("run: the program's name is empty")
    path = Path(name)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                head = file.read(4096)
        elif stat.S_ISDIR(mode):
            if not any((path / main).is_file() for main in ("__main__.py", "__main__.pyc")):
                raise CommandError(f"run: folder without a __main__.py: {name}")
            return
        else:
            return  # a pipe or device: reading from it would take the program away
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise CommandError(f"run: no such file: {name}") from None
        raise CommandError(f"run: cannot read {name}: {error.strerror}") from None
    if b"\0" in head and head[:4] != importlib.util.MAGIC_NUMBER and not zipfile.is_zipfile(path):
        raise CommandError(f"run: not a Python file: {name}")
