"""Idle TCP connections held by another process, for the memory scenarios.

Run as a script (`idle_clients.py PORT`), this is that process: each line of its input is a total
to reach; it answers with the total when that many connections are open and served. It imports no
other file of the benchmarks, so that it runs from anywhere.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys

# Descriptors that a process needs besides its connections.
SPARE_FDS = 64


def allow_connections(count: int) -> None:
    """Raises the limit of open files as far as `count` connections need, or says that it cannot."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FDS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise RuntimeError(f"the hard limit of open files is {hard}, below {wanted}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class IdleClients:
    """The other process, seen from the server's."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, __file__, str(port)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def grow(self, total: int) -> None:
        """Blocks until `total` connections are open and each has been served once.

        Raises RuntimeError if the other process has ended instead.
        """
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{total}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != str(total):
            raise RuntimeError(f"the clients did not reach {total} connections")

    def close(self) -> None:
        """Ends the other process, and with it its connections."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _hold_connections(port: int) -> None:
    held: list[socket.socket] = []
    for line in sys.stdin:
        total = int(line)
        allow_connections(total)
        while len(held) < total:
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
            client.sendall(b"x")
            if client.recv(1) != b"x":
                raise RuntimeError("a connection was not served")
            held.append(client)
        print(total, flush=True)


if __name__ == "__main__":
    _hold_connections(int(sys.argv[1]))
