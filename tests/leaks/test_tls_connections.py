"""TLS connections of all endings: a leak of any object of a connection would show.

Twenty thousand in a full run, whose memory must not grow by a byte a connection.
"""

from typing import Any

from tls_connections import BYTES_EACH_MAX, tls_memory


def test_connections_of_all_endings_leave_nothing(run_long: Any) -> None:
    figures = run_long(tls_memory, 1_200, 20_000)
    assert figures["bytes_each"] < BYTES_EACH_MAX, figures
