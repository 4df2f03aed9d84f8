"""`create_subprocess_exec` and `create_subprocess_shell` with native streams.

The process, its protocol and its `Process` object are asyncio's; what a program reads from and
writes to per message are the native reader and writer.
"""

from __future__ import annotations

import asyncio
from asyncio import subprocess
from typing import Any

from oxloop._streams import DEFAULT_LIMIT, StreamReader, StreamWriter

Process = subprocess.Process


class SubprocessStreamProtocol(subprocess.SubprocessStreamProtocol):
    """The protocol of a process whose pipes are native streams."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs: a reader for each of its outputs, a writer for its input."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        for fd in (1, 2):
            pipe = transport.get_pipe_transport(fd)
            if pipe is None:
                continue
            reader = StreamReader(self._limit, self._loop)  # type: ignore[attr-defined]
            reader.set_transport(pipe)
            self._pipe_fds.append(fd)  # type: ignore[attr-defined]
            if fd == 1:
                self.stdout = reader
            else:
                self.stderr = reader
        pipe = transport.get_pipe_transport(0)
        if pipe is not None:
            self.stdin = StreamWriter(pipe, self, None, self._loop)  # type: ignore[attr-defined]


async def create_subprocess_shell(
    cmd: str | bytes,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> Process:
    """Run the command line `cmd` by the shell; its `Process`.

    Args:
        stdin, stdout, stderr: `PIPE` for a stream, or as for `subprocess.Popen`.
        limit: of the readers, in bytes.
        kwds: as for `loop.subprocess_shell`.
    """
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_shell(
        lambda: SubprocessStreamProtocol(limit, loop),
        cmd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        **kwds,
    )
    return Process(transport, protocol, loop)


async def create_subprocess_exec(
    program: Any,
    *args: Any,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = DEFAULT_LIMIT,
    **kwds: Any,
) -> Process:
    """Run `program` with `args`; its `Process`.

    Args:
        stdin, stdout, stderr: `PIPE` for a stream, or as for `subprocess.Popen`.
        limit: of the readers, in bytes.
        kwds: as for `loop.subprocess_exec`.
    """
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit, loop),
        program,
        *args,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        **kwds,
    )
    return Process(transport, protocol, loop)
