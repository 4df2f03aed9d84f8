"""A small run of `tls_connections.py`: a leak of any object of a connection would show."""

import os
import subprocess
import sys
from pathlib import Path

import loops
import pytest

PROGRAM = Path(__file__).with_name("tls_connections.py")
CONNECTIONS = 1200
# The least that a connection could leak is some objects; the noise of so few is below this.
SLOPE_BYTES_MAX = 256


@pytest.mark.parametrize("loop_name", [name for name in loops.names() if name == "oxloop"])
def test_connections_of_all_endings_leave_nothing(loop_name: str) -> None:
    command = [sys.executable, str(PROGRAM), "--loop", loop_name]
    command += ["--connections", str(CONNECTIONS), "--slope-max", str(SLOPE_BYTES_MAX)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
