"""The command's errors are one clear line and a status; `doctor` and `--version` answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import oxloop as package
import pytest
from programs import environment, oxloop, python

UNKNOWN_OPTION = (
    "run: unknown option: --fast; those of python go before -m oxloop run (see 'oxloop --help')"
)


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ([], 2, "no command (see 'oxloop --help')"),
        (["walk"], 2, "unknown command: walk (see 'oxloop --help')"),
        (["run"], 2, "run: no program given (see 'oxloop --help')"),
        (["run", "--"], 2, "run: no program given (see 'oxloop --help')"),
        (["run", "-m"], 2, "run: -m needs a module (see 'oxloop --help')"),
        (["run", "-c"], 2, "run: -c needs code (see 'oxloop --help')"),
        (["run", "--fast", "app.py"], 2, UNKNOWN_OPTION),
        (["run", ""], 1, "run: the program's name is empty"),
        (["run", "absent.py"], 1, "run: no such file: absent.py"),
        (["run", "-m", "absent_module"], 1, "run: no module named absent_module"),
        (["run", "-m", "absent_module.part"], 1, "run: no module named absent_module.part"),
        (["run", "binary"], 1, "run: not a Python file: binary"),
        (["run", "folder"], 1, "run: folder without a __main__.py: folder"),
        (["doctor", "--xml"], 2, "doctor: unknown argument: --xml (see 'oxloop --help')"),
    ],
)
def test_an_error_is_one_line(tmp_path: Path, arguments: list[str], status: int, line: str) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0\0\0")
    (tmp_path / "folder").mkdir()
    ended = oxloop(*arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr == f"oxloop: {line}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret.py").touch(mode=0)
    ended = oxloop("run", "secret.py", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == "oxloop: run: cannot read secret.py: Permission denied\n"


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_an_interpreter_that_would_not_take_over_is_refused(tmp_path: Path, option: str) -> None:
    # The command's main is called with the flag set, as in an isolated interpreter, whose own
    # way to find the package would depend on how it is installed.
    folder = str(Path(package.__file__).parent.parent)
    code = (
        f"import sys; sys.path[:0] = [{folder!r}, *{[p for p in sys.path if p]!r}]; "
        "from oxloop.cli import main; sys.exit(main(['run', '-c', 'pass']))"
    )
    ended = python(option, "-c", code, cwd=tmp_path)
    assert ended.stderr == f"oxloop: run: does not work under python {option}\n"
    assert ended.returncode == 1


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"]])
def test_help(tmp_path: Path, arguments: list[str]) -> None:
    ended = oxloop(*arguments, cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: oxloop run")


def test_version(tmp_path: Path) -> None:
    assert oxloop("--version", cwd=tmp_path).stdout == f"oxloop {package.__version__}\n"


def test_doctor(tmp_path: Path) -> None:
    ended = oxloop("doctor", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    for name in (
        "oxloop",
        "python",
        "kernel",
        "driver",
        "io_uring setting",
        "uvloop",
        "nest_asyncio",
    ):
        assert any(line.startswith(f"{name} ") for line in ended.stdout.splitlines()), name


def test_doctor_json(tmp_path: Path) -> None:
    found = json.loads(oxloop("doctor", "--json", cwd=tmp_path).stdout)
    assert found["oxloop"] == package.__version__
    assert found["executable"] == sys.executable
    assert isinstance(found["driver"], list) and found["driver"]
    assert found["OXLOOP"] is None
    assert found["inherited"] == "no"
    assert found["asyncio makes"].startswith("asyncio.")


def test_doctor_under_oxloop_run(tmp_path: Path) -> None:
    found = json.loads(oxloop("run", "-m", "oxloop", "doctor", "--json", cwd=tmp_path).stdout)
    assert found["OXLOOP"] == "1"
    assert found["inherited"].startswith("yes")
    assert found["asyncio makes"].startswith("oxloop.")


def test_doctor_sees_half_an_inheritance(tmp_path: Path) -> None:
    found = json.loads(oxloop("doctor", "--json", cwd=tmp_path, OXLOOP="1").stdout)
    assert found["inherited"].startswith("no: OXLOOP=1 without")


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "oxloop", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_help_of_a_command(tmp_path: Path, command: str) -> None:
    ended = oxloop(command, "--help", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: oxloop run")
