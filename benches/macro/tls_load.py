"""Load on a TLS echo server: `python benches/macro/tls_load.py --addr HOST:PORT …`.

Takes the options of the native load generator in its echo mode and prints the same JSON. A
connection sends its next message when the reply to the one before has come and was checked. The
TLS is Python's `ssl` on non-blocking sockets, so the load is less than the native one's: the
server's CPU time per reply, read by its CPU clock, is the figure to compare; on a CPU of its own
the load keeps the server busy all the same.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import ssl
import time
from pathlib import Path

CERTIFICATE = Path(__file__).resolve().parent.parent.parent / "tests/certificates/localhost.pem"
# The kernel's number for "the CPU time of process PID" (clock_gettime(2), CPUCLOCK_SCHED).
_PROCESS_CPU = 2


def cpu_clock_of(pid: int) -> int:
    """The clock that counts the CPU time of another process."""
    return ((~pid) << 3) | _PROCESS_CPU


class Connection:
    """One client; `turn` sends, receives, and says how long a finished round trip took."""

    def __init__(self, address: tuple[str, int], size: int, number: int) -> None:
        context = ssl.create_default_context(cafile=str(CERTIFICATE))
        plain = socket.create_connection(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain, server_hostname="localhost")
        self.sock.setblocking(False)
        self.message = bytes((number + index) % 256 for index in range(size))
        self.received = bytearray()
        self.unsent = memoryview(b"")
        self.sent_at = 0.0

    def begin(self) -> None:
        """Send the message."""
        self.received.clear()
        self.unsent = memoryview(self.message)
        self.sent_at = time.perf_counter()
        self.send()

    def send(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass

    def turn(self) -> float | None:
        """Go on; seconds of the round trip once the reply is complete. Raises ValueError for a
        wrong reply."""
        self.send()
        try:
            while len(self.received) < len(self.message):
                data = self.sock.recv(262_144)
                if not data:
                    raise ValueError("the server has hung up")
                self.received += data
        except ssl.SSLWantReadError:
            return None
        took = time.perf_counter() - self.sent_at
        if self.received != self.message:
            raise ValueError("a wrong reply")
        return took


def run(connections: list[Connection], until: float) -> list[float]:
    """Round trips until the time `until` (perf_counter): the seconds that each took."""
    took = []
    with selectors.EpollSelector() as selector:
        for connection in connections:
            selector.register(connection.sock, selectors.EVENT_READ, connection)
        while time.perf_counter() < until:
            # Never asleep: to be woken would cost the server.
            for key, _ in selector.select(0):
                seconds = key.data.turn()
                if seconds is not None:
                    took.append(seconds)
                    key.data.begin()
            for connection in connections:
                if connection.unsent:
                    connection.send()
    return took


def quantile(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Load on a TLS echo server; prints JSON.")
    parser.add_argument("--addr", required=True)
    parser.add_argument("--mode", choices=["echo"], default="echo")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--spin", action="store_true")
    args = parser.parse_args()
    host, _, port = args.addr.rpartition(":")
    connections = [
        Connection((host, int(port)), args.size, number) for number in range(args.connections)
    ]
    for connection in connections:
        connection.begin()
    clock = cpu_clock_of(args.server_pid)
    run(connections, time.perf_counter() + args.warmup)
    started, cpu_started = time.perf_counter(), time.clock_gettime(clock)
    took = sorted(run(connections, started + args.seconds))
    lasted, cpu_s = time.perf_counter() - started, time.clock_gettime(clock) - cpu_started
    report = {
        "replies": len(took),
        "replies_per_s": len(took) / lasted,
        "p50_us": quantile(took, 0.5) * 1e6 if took else 0.0,
        "p99_us": quantile(took, 0.99) * 1e6 if took else 0.0,
        "server_cpu_s": cpu_s,
        "errors": 0,
        "first_error": None,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
