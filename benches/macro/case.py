"""The macro benchmarks: which server under which load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A server kind and the load on it.

    `size` is the echo message in bytes; `http` uses the load generator's HTTP mode instead, `tls`
    the load generator `tls_load.py`.
    `module` must be installed for the server to start. `fresh`: the server's allocator has not seen
    a large block freed yet (`settle_allocator` in server.py tells what that means).
    """

    name: str
    kind: str
    connections: int
    size: int = 1024
    http: bool = False
    churn: bool = False
    module: str | None = None
    tls: bool = False
    fresh: bool = False

    def load_args(self) -> list[str]:
        """The load generator's arguments for this load."""
        words = ["--mode", "http" if self.http else "echo"]
        words += ["--connections", str(self.connections), "--size", str(self.size)]
        return [*words, "--churn"] if self.churn else words

    def server_args(self) -> list[str]:
        """The server's arguments, behind the loop's name."""
        return [self.kind, "--fresh"] if self.fresh else [self.kind]


CASES = (
    Case("protocol/1K/1c", "protocol", 1),
    Case("protocol/1K/10c", "protocol", 10),
    Case("protocol/1K/100c", "protocol", 100),
    Case("protocol/1K/1000c", "protocol", 1000),
    Case("protocol/10K/10c", "protocol", 10, size=10 * 1024),
    Case("protocol/100K/10c", "protocol", 10, size=100 * 1024),
    Case("protocol/churn/10c", "protocol", 10, churn=True),
    Case("buffered/1K/10c", "buffered", 10),
    Case("streams/1K/10c", "streams", 10),
    Case("streams/100K/10c", "streams", 10, size=100 * 1024),
    Case("streams-fresh/100K/10c", "streams", 10, size=100 * 1024, fresh=True),
    Case("sock/1K/10c", "sock", 10),
    Case("tls/1K/10c", "tls", 10, tls=True),
    Case("tls/100K/10c", "tls", 10, size=100 * 1024, tls=True),
    Case("http/10c", "http", 10, http=True),
    Case("aiohttp/10c", "aiohttp", 10, http=True, module="aiohttp"),
    Case("uvicorn/10c", "uvicorn", 10, http=True, module="uvicorn"),
)
