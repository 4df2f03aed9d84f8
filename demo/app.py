"""The demo's server: a small notes service on aiohttp, with everything kept in memory.

    python demo/app.py [--port PORT]

It is an ordinary asyncio program and knows nothing of the loop that it runs on:

    POST /api/notes          store a note, answer with it and its number (JSON)
    GET  /api/notes/{id}     one note (JSON)
    GET  /notes/{id}         the note as a page (HTML from a template)
    GET  /stream/{count}     `count` lines, sent as they are made (chunked)
    GET  /rooms/{name}       a room: what one says, everyone in it hears (websocket)

The first line on stdout is the address. SIGTERM and Ctrl-C end it in order.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import signal
from collections import defaultdict, deque
from string import Template

from aiohttp import WSMsgType, web

NOTES_MAX = 1000

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>$title</title></head>
<body>
<h1>$title</h1>
<p>$text</p>
<ul>
$others
</ul>
</body>
</html>
""")


class Notes:
    """The newest notes by number; older ones are forgotten."""

    def __init__(self) -> None:
        self._by_id: dict[int, dict[str, object]] = {}
        self._order: deque[int] = deque()
        self._next_id = 1

    def add(self, title: str, text: str) -> dict[str, object]:
        note = {"id": self._next_id, "title": title, "text": text}
        self._by_id[self._next_id] = note
        self._order.append(self._next_id)
        self._next_id += 1
        if len(self._order) > NOTES_MAX:
            del self._by_id[self._order.popleft()]
        return note

    def get(self, note_id: str) -> dict[str, object]:
        try:
            return self._by_id[int(note_id)]
        except (KeyError, ValueError):
            raise web.HTTPNotFound(text="no such note") from None

    def newest(self, count: int) -> list[dict[str, object]]:
        ids = list(self._order)[-count:] if count else []
        return [self._by_id[note_id] for note_id in reversed(ids)]


NOTES = web.AppKey("notes", Notes)
Rooms = defaultdict[str, set[web.WebSocketResponse]]
ROOMS: web.AppKey[Rooms] = web.AppKey("rooms")


async def create_note(request: web.Request) -> web.Response:
    try:
        body = await request.json()
        title, text = str(body["title"]), str(body["text"])
    except (json.JSONDecodeError, KeyError, TypeError):
        raise web.HTTPBadRequest(text="a note has a title and a text") from None
    return web.json_response(request.app[NOTES].add(title, text), status=201)


async def read_note(request: web.Request) -> web.Response:
    return web.json_response(request.app[NOTES].get(request.match_info["id"]))


async def show_note(request: web.Request) -> web.Response:
    notes = request.app[NOTES]
    note = notes.get(request.match_info["id"])
    others = "\n".join(
        f'<li><a href="/notes/{other["id"]}">{html.escape(str(other["title"]))}</a></li>'
        for other in notes.newest(10)
    )
    page = PAGE.substitute(
        title=html.escape(str(note["title"])), text=html.escape(str(note["text"])), others=others
    )
    return web.Response(text=page, content_type="text/html")


async def stream_lines(request: web.Request) -> web.StreamResponse:
    try:
        count = min(int(request.match_info["count"]), 10_000)
    except ValueError:
        raise web.HTTPBadRequest(text="the count is a number") from None
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for number in range(count):
        await response.write(json.dumps({"line": number, "of": count}).encode() + b"\n")
        await asyncio.sleep(0)
    await response.write_eof()
    return response


async def join_room(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    rooms, name = request.app[ROOMS], request.match_info["name"]
    members = rooms[name]
    members.add(socket)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await asyncio.gather(
                    *(member.send_str(message.data) for member in list(members)),
                    return_exceptions=True,
                )
    finally:
        members.discard(socket)
        if not members:
            rooms.pop(name, None)
    return socket


def make_app() -> web.Application:
    app = web.Application()
    app[NOTES] = Notes()
    rooms: Rooms = defaultdict(set)
    app[ROOMS] = rooms
    app.add_routes(
        [
            web.post("/api/notes", create_note),
            web.get("/api/notes/{id}", read_note),
            web.get("/notes/{id}", show_note),
            web.get("/stream/{count}", stream_lines),
            web.get("/rooms/{name}", join_room),
        ]
    )
    return app


async def serve(port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(make_app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=2).start()
    host, chosen_port = runner.addresses[0][:2]
    print(f"http://{host}:{chosen_port}", flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A notes service, kept in memory.")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) picks a free one")
    asyncio.run(serve(parser.parse_args().port))
