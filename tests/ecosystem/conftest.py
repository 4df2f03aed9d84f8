"""Fixtures of the ecosystem tests: the loop under test, certificates, databases.

Decision. `kind` is parametrised over the loops of `loops.loop_kinds`; `run` and `run_anyio` run a
coroutine on it with its checks. A missing package or database program is a skip that is listed
again at the very end of the run, so that nobody takes its absence for a success. Warnings of
libraries are theirs; coroutines that were never awaited and errors that nobody could catch are
failures.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from . import databases, loops

FOLDER = Path(__file__).parent
LIMIT_S = 60
FILTERS = (
    "default",
    "error::RuntimeWarning",
    "error::pytest.PytestUnraisableExceptionWarning",
    "error::pytest.PytestUnhandledThreadExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this folder its time limit and its filters of warnings."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.timeout(LIMIT_S, method="thread"))
            item.add_marker(pytest.mark.filterwarnings(*FILTERS))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the skips of this folder, each reason once."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.getreports("skipped"):
        if Path(str(report.fspath)).name in {path.name for path in FOLDER.glob("test_*.py")}:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "?"
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in reasons.items():
        terminalreporter.write_line(f"ECOSYSTEM NOT TESTED ({count}x): {reason}", red=True)


@pytest.fixture(params=loops.loop_kinds(), ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> loops.LoopKind:
    """The event loop under test."""
    return request.param


@pytest.fixture
def run(kind: loops.LoopKind) -> Callable[..., Any]:
    """`run(coroutine, debug=False)`: the coroutine's result on the loop under test."""

    def run(main: Coroutine[Any, Any, Any], *, debug: bool = False) -> Any:
        return loops.run_on(kind, main, debug=debug)

    return run


@pytest.fixture
def run_anyio(kind: loops.LoopKind) -> Callable[..., Any]:
    """`run_anyio(function)`: the coroutine function's result by anyio on the loop under test."""
    return lambda main: loops.run_anyio_on(kind, main)


class Tls(NamedTuple):
    """Contexts for both sides of a TLS connection to 127.0.0.1 or localhost."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def tls() -> Tls:
    """TLS contexts with a certificate made for this run."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server, client)


@pytest.fixture(scope="session")
def redis_address() -> Iterator[databases.RedisAddress]:
    """A running redis-server."""
    program = databases.redis_program()
    if program is None:
        pytest.skip("no redis-server or valkey-server on PATH")
    with databases.redis_server(program) as address:
        yield address


@pytest.fixture(scope="session")
def postgres_address() -> Iterator[databases.PostgresAddress]:
    """A running PostgreSQL with an empty database."""
    programs = databases.postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL (initdb, postgres) in /usr/lib/postgresql or on PATH")
    with databases.postgres_server(programs) as address:
        yield address
