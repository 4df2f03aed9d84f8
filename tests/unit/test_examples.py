"""Every example gives the same output on asyncio and under `oxloop run`.

Each runs once as a plain asyncio program and once per further loop under test; the outputs
must be equal to the last byte, and nothing may be written to stderr.
"""

import os
import subprocess
import sys
from pathlib import Path

import loops
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def output(*arguments: str) -> str:
    """What a Python process with these arguments prints; it must end well and silently."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_all_examples_are_here() -> None:
    assert {
        "countasync.py",
        "async_rules.py",
        "async_chained.py",
        "producer_consumer.py",
        "combinators.py",
        "from_threads.py",
        "blocking_sleep.py",
        "executors.py",
        "crawler.py",
        "echo.py",
        "one_line_changed.py",
    } <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_output_is_the_same(program: str) -> None:
    path = str(EXAMPLES / program)
    expected = output(path)
    assert expected.strip()
    again = ["-m", "oxloop", "run", path] if "oxloop" in loops.names() else [path]
    assert output(*again) == expected


def test_the_changed_line_changes_nothing_else() -> None:
    path = EXAMPLES / "one_line_changed.py"
    changed = "import oxloop as asyncio"
    program = path.read_text()
    assert program.count(changed) == 1
    assert output("-c", program.replace(changed, "import asyncio")) == output(str(path))


@pytest.mark.parametrize("talker", [name for name in loops.names() if name != "uvloop"])
def test_echo_client_and_server_are_separate_processes(talker: str) -> None:
    path = str(EXAMPLES / "echo.py")
    command = [sys.executable] + (["-m", "oxloop", "run"] if talker == "oxloop" else [])
    server = subprocess.Popen([*command, path, "serve", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        listening = server.stdout.readline()
        port = listening.rsplit(",", 1)[1].strip(" )\n")
        answers = output(path, "talk", port)
        assert answers == "client: hello\nclient: how are you\nclient: good-bye\n"
    finally:
        server.terminate()
        server.communicate(timeout=30)
