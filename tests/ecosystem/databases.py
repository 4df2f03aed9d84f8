"""A real redis-server and a real PostgreSQL, each in its own temporary folder, for one test run.

Facts. PostgreSQL refuses to run as root, so root starts it as the user `postgres` (or `nobody`),
who must own the data folder; a temporary folder of pytest is closed to other users. Its programs
are often not on PATH but in /usr/lib/postgresql/<version>/bin. Both servers take Unix sockets in
a folder; a Unix path may hold 107 bytes only, hence short names directly in the temporary folder.

Decision. A function per server that is a context manager and yields its address; None when the
program is not found, and the fixture then skips with a reason.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .processes import Program, free_port


@dataclass(frozen=True)
class RedisAddress:
    """Where a redis-server listens."""

    host: str
    port: int
    unix_path: str


@dataclass(frozen=True)
class PostgresAddress:
    """Where a PostgreSQL listens; `socket_dir` holds its Unix socket. No password is asked."""

    host: str
    port: int
    socket_dir: str
    user: str
    database: str


def redis_program() -> str | None:
    """The path of redis-server (or its successor valkey-server), or None."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


@contextlib.contextmanager
def redis_server(program: str) -> Iterator[RedisAddress]:
    """Run `program`, a redis-server, without persistence until the block ends."""
    folder = tempfile.mkdtemp(prefix="oxr")
    try:
        address = RedisAddress("127.0.0.1", free_port(), os.path.join(folder, "r.sock"))
        options = {
            "--bind": address.host,
            "--port": str(address.port),
            "--unixsocket": address.unix_path,
            "--save": "",
            "--appendonly": "no",
            "--dir": folder,
            "--daemonize": "no",
            "--maxclients": "1000",
        }
        command = [program, *(part for pair in options.items() for part in pair)]
        with Program(command) as server:
            server.wait_for_line(r"[Rr]eady to accept connections")
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_programs() -> Path | None:
    """The folder with PostgreSQL's initdb and postgres (the newest version), or None."""
    installed = glob.glob("/usr/lib/postgresql/*/bin")
    installed.sort(key=lambda path: [int(part) for part in path.split("/")[4].split(".")])
    folders = [Path(path) for path in reversed(installed)]
    on_path = shutil.which("initdb")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK):
            return folder
    return None


def unprivileged_user() -> pwd.struct_passwd | None:
    """The user whom root lends to PostgreSQL; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("running as root, and there is no user postgres or nobody")


@contextlib.contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresAddress]:
    """Initialise a database cluster with the programs in `programs` and run it for the block."""
    folder = tempfile.mkdtemp(prefix="oxp")
    popen_options: dict[str, object] = {"cwd": folder, "env": {**os.environ, "LC_ALL": "C"}}
    try:
        user = unprivileged_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
            popen_options.update(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        data = os.path.join(folder, "data")
        initialise = [str(programs / "initdb"), "-D", data, "-U", "oxloop", "-A", "trust"]
        initialise += ["-E", "UTF8", "--no-sync"]
        done = subprocess.run(initialise, capture_output=True, text=True, **popen_options)
        assert done.returncode == 0, f"initdb failed:\n{done.stdout}{done.stderr}"
        address = PostgresAddress("127.0.0.1", free_port(), folder, "oxloop", "postgres")
        settings = {
            "listen_addresses": address.host,
            "port": str(address.port),
            "unix_socket_directories": folder,
            "fsync": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        command = [str(programs / "postgres"), "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with Program(command, **popen_options) as server:
            server.wait_for_line("database system is ready to accept connections")
            yield address
            server.send_signal(signal.SIGQUIT)  # immediate shutdown: the data is thrown away
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
