"""`StreamReader._buffer`: the unread bytes of a reader, as the bytearray that libraries expect.

asyncio keeps what was received in a bytearray, and since there is no public way to ask whether
anything is there, programs look at it: its length and truth, sometimes its contents, and some take
bytes out of it or put bytes back. The native reader keeps the received objects instead. This object
answers for it, each time from what the reader has then; a change is written back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from oxloop._native_streams import StreamReader

# Methods of bytearray that change it.
_CHANGING = frozenset(
    {"append", "extend", "insert", "pop", "remove", "resize", "reverse", "take_bytes"}
)


class StreamBuffer:
    """The unread bytes of `reader`.

    Everything that a bytearray offers works. What is returned is a copy; `+=`, `extend`, `clear`,
    `del buffer[:n]` and the like change the reader.
    """

    __slots__ = ("_reader",)

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def __len__(self) -> int:
        return self._reader._unread_bytes()

    def __bool__(self) -> bool:
        return self._reader._unread_bytes() > 0

    def __bytes__(self) -> bytes:
        return self._reader._unread()

    def __buffer__(self, flags: int, /) -> memoryview:
        return memoryview(self._reader._unread())

    def __repr__(self) -> str:
        return repr(bytearray(self._reader._unread()))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StreamBuffer):
            return bytes(self) == bytes(other)
        return bytes(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[int]:
        return iter(bytes(self))

    def __contains__(self, item: Any) -> bool:
        return item in bytes(self)

    def __getitem__(self, index: Any) -> Any:
        return bytearray(bytes(self))[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        with_change = bytearray(bytes(self))
        with_change[index] = value
        self._reader._replace_unread(bytes(with_change))

    def __delitem__(self, index: Any) -> None:
        rest = bytearray(bytes(self))
        del rest[index]
        self._reader._replace_unread(bytes(rest))

    def __add__(self, other: ReadableBuffer) -> bytearray:
        return bytearray(bytes(self)) + other

    def __iadd__(self, other: ReadableBuffer) -> StreamBuffer:
        self._reader._replace_unread(bytes(self) + bytes(other))
        return self

    def clear(self) -> None:
        """Forget everything."""
        self._reader._replace_unread(b"")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        contents = bytearray(bytes(self))
        method: Callable[..., Any] = getattr(contents, name)
        if name not in _CHANGING:
            return method

        def change(*args: Any) -> Any:
            result = method(*args)
            self._reader._replace_unread(bytes(contents))
            return result

        return change
