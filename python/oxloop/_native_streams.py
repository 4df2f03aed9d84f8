"""The streams of the extension. A module of its own, so that its stub is checked against it."""

from ._oxloop import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    _ClientDone,
    _set_stream_classes,
)

__all__ = [
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "_ClientDone",
    "_set_stream_classes",
]
