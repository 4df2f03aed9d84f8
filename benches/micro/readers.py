"""Readiness callbacks: what libraries with their own sockets use."""

from __future__ import annotations

import asyncio
import socket

from micro.scenario import scenario


@scenario()
async def add_reader_ping(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """A byte sent to oneself over a socket pair and received in a reader callback."""
    sender, receiver = socket.socketpair()
    done = loop.create_future()
    left = count

    def receive() -> None:
        nonlocal left
        receiver.recv(1)
        left -= 1
        if left:
            sender.send(b"x")
        else:
            done.set_result(None)

    with sender, receiver:
        receiver.setblocking(False)
        loop.add_reader(receiver, receive)
        try:
            sender.send(b"x")
            await done
        finally:
            loop.remove_reader(receiver)
