"""`oxloop run` runs a program as `python` does: same surroundings, same end, our loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs import environment, oxloop, python

SURROUNDINGS = """
import sys, os
print(sys.argv)
print(sys.path)
print(__name__, __spec__ is None, __package__, globals().get("__file__"))
print(sys.modules["__main__"].__dict__ is globals())
print(sorted(name for name in sys.modules if name.startswith(("asyncio", "oxloop", "runpy"))))
print(sys.flags)
"""

WHICH_LOOP = """
import asyncio
async def main():
    print(type(asyncio.get_running_loop()).__module__.partition(".")[0])
asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "surroundings.py").write_text(SURROUNDINGS)
    (tmp_path / "which.py").write_text(WHICH_LOOP)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(SURROUNDINGS)
    (package / "module.py").write_text(WHICH_LOOP)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["surroundings.py", "a", "-b", "--json", "-m"],
        ["./package"],
        ["-m", "surroundings", "-x", "y"],
        ["-msurroundings"],
        ["-m", "package", "z"],
        ["-c", SURROUNDINGS, "a", "-c"],
    ],
)
def test_the_surroundings_are_those_of_python(folder: Path, arguments: list[str]) -> None:
    plain = python(*arguments, cwd=folder)
    ours = oxloop("run", *arguments, cwd=folder)
    assert plain.returncode == 0, plain.stderr
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, 0)


def test_options_of_the_interpreter_are_handed_on(folder: Path) -> None:
    plain = python("-X", "dev", "-W", "error", "-O", "surroundings.py", cwd=folder)
    options = ["-X", "dev", "-W", "error", "-O"]
    ours = python(*options, "-m", "oxloop", "run", "surroundings.py", cwd=folder)
    assert ours.stdout.splitlines()[-1] == plain.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["which.py"], ["-m", "package.module"], ["-c", WHICH_LOOP]])
def test_asyncio_run_uses_oxloop(folder: Path, arguments: list[str]) -> None:
    assert python(*arguments, cwd=folder).stdout == "asyncio\n"
    assert oxloop("run", *arguments, cwd=folder).stdout == "oxloop\n"


def test_a_file_that_begins_with_a_dash(folder: Path) -> None:
    (folder / "-odd.py").write_text("print('odd')")
    assert oxloop("run", "--", "-odd.py", cwd=folder).stdout == "odd\n"


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit",
        "raise SystemExit(7)",
        "raise SystemExit('a message')",
        "1 / 0",
        "import nothing_of_that_name",
        "this is not Python",
        "import os; os._exit(9)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import asyncio\nasync def main(): raise SystemExit(5)\nasyncio.run(main())",
        "raise KeyboardInterrupt",
    ],
)
def test_the_end_is_that_of_python(tmp_path: Path, code: str) -> None:
    (tmp_path / "program.py").write_text(code)
    plain = python("program.py", cwd=tmp_path)
    ours = oxloop("run", "program.py", cwd=tmp_path)
    assert ours.returncode == plain.returncode
    assert ours.stdout == plain.stdout
    if "asyncio" not in code:  # asyncio's frames differ
        assert ours.stderr == plain.stderr


@pytest.mark.parametrize("command", [[], ["-m", "oxloop", "run"]])
def test_ctrl_c_ends_by_sigint(tmp_path: Path, command: list[str]) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "async def main():\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, *command, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        # asyncio goes to sleep with a signal unseen that comes just before; oxloop must not.
        assert not command
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")


def test_the_program_keeps_the_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "oxloop", "run", "-c", "import os; print(os.getpid())"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    output, _ = process.communicate(timeout=60)
    assert int(output) == process.pid


def test_stdin_can_be_the_program(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "oxloop", "run", "-", "a"],
        input="import sys; print(sys.argv)",
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert ended.stdout == "['-', 'a']\n"


def test_pythonpath_of_the_user_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('mine')")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    code = "import mine, sys; print(sys.path)"
    plain = python("-c", code, cwd=tmp_path, PYTHONPATH=path)
    ours = oxloop("run", "-c", code, cwd=tmp_path, PYTHONPATH=path)
    assert (ours.stdout, ours.stderr) == (plain.stdout, plain.stderr)
    assert ours.stdout.startswith("mine\n")


def test_all_x_options_are_handed_on(tmp_path: Path) -> None:
    code = (
        "import sys; print(sys.flags.dev_mode, sys.flags.optimize, sorted(sys._xoptions.items()))"
    )
    options = ["-X", "dev", "-X", "pycache_prefix=elsewhere", "-X", "mine=1", "-O"]
    plain = python(*options, "-c", code, cwd=tmp_path)
    ours = python(*options, "-m", "oxloop", "run", "-c", code, cwd=tmp_path)
    assert (ours.returncode, ours.stderr) == (0, "")
    assert ours.stdout == plain.stdout
    assert "('mine', '1')" in ours.stdout
