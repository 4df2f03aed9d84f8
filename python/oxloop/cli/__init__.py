"""The command `oxloop`: `oxloop run`, `oxloop doctor`, `oxloop --version`.

An error of the command line is one line on stderr. The exit status is 2 for a command line that
cannot be understood and 1 for one that cannot be carried out; a program that was started
decides its own.
"""

from __future__ import annotations

import os
import signal
import sys

USAGE = """\
usage: oxloop run [-m MODULE | -c CODE | FILE] [ARGS...]   run a program on oxloop
       oxloop doctor [--json]                              what oxloop finds on this machine
       oxloop --version

`oxloop run` starts the program as `python` would. Its Python child processes use oxloop too.
Options of the interpreter go to Python: python -X dev -m oxloop run app.py
"""


class CommandError(Exception):
    """A command that cannot go on: its text is the line to show, `status` the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class UsageError(CommandError):
    """A command line that cannot be understood."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text} (see 'oxloop --help')", status=2)


def main(argv: list[str] | None = None) -> int:
    """Carry out one command line.

    Args:
        argv: the arguments after the command's name; None takes them from `sys.argv`.

    Returns:
        The exit status. `oxloop run` does not return when it succeeds: the process becomes the
        program.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(arguments)
    except CommandError as error:
        print(f"oxloop: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader of stdout went away; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        # End by the signal, so that a calling shell sees an interrupted command.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
        return 130


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        raise UsageError("no command")
    command, rest = arguments[0], arguments[1:]
    if command == "run":
        from oxloop.cli.run import run

        return run(rest)
    if command == "doctor":
        from oxloop.cli.doctor import doctor

        return doctor(rest)
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command in ("-V", "--version"):
        from oxloop._oxloop import __version__

        print(f"oxloop {__version__}")
        return 0
    raise UsageError(f"unknown command: {command}")
