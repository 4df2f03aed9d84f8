"""TLS connections of all endings: a leak of any object of a connection would show.

Twenty thousand in a full run, whose memory must not grow by a byte a connection.
"""

from typing import Any

from conftest import FULL
from tls_connections import tls_memory

# The least that a connection could leak is some objects; the noise of a short run is below this.
BYTES_EACH_MAX = 1 if FULL else 256


def test_connections_of_all_endings_leave_nothing(run_long: Any) -> None:
    figures = run_long(tls_memory, 1_200, 20_000)
    assert figures["bytes_each"] < BYTES_EACH_MAX, figures
