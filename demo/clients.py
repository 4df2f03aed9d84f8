"""The demo's clients: many sessions at once against demo/app.py, every answer checked.

    python demo/clients.py URL [--sessions N] [--warmup SECONDS] [--seconds SECONDS]

Like the server an ordinary asyncio program. Each session goes round: store a note, read it, look
at its page, follow a stream, speak in a room that it shares with one other session. A wrong
answer ends the run with an error.

On stdout stands one JSON object a line: {"event": "begin"} when the warm-up is over,
{"event": "progress", ...} now and then, {"event": "end"} when the measured time is over, and
last {"event": "result", ...} with all figures.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

LINES_PER_STREAM = 20
WORDS_PER_ROUND = 4
PROGRESS_INTERVAL_S = 0.2


class WrongAnswer(Exception):
    """The server's answer is not the one that it must give."""


class Figures:
    """The time that each request took, by kind, while measuring is on."""

    def __init__(self) -> None:
        self.measuring = False
        self.took_ns: dict[str, list[int]] = defaultdict(list)

    @asynccontextmanager
    async def request(self, kind: str) -> AsyncIterator[None]:
        """Time one request."""
        begun_ns = time.perf_counter_ns()
        yield
        if self.measuring:
            self.took_ns[kind].append(time.perf_counter_ns() - begun_ns)

    def count(self) -> int:
        return sum(map(len, self.took_ns.values()))

    def summary(self) -> dict[str, dict[str, float]]:
        """Count, median and 99th percentile (ms) by kind, and over `all`."""
        everything = [value for values in self.took_ns.values() for value in values]
        return {
            kind: {"count": len(values), "p50_ms": at(values, 0.5), "p99_ms": at(values, 0.99)}
            for kind, values in {"all": everything, **self.took_ns}.items()
        }


def at(values_ns: list[int], fraction: float) -> float:
    """The value at this fraction of the sorted values, in milliseconds."""
    ordered = sorted(values_ns)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] / 1e6


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise WrongAnswer(what)


class Room:
    """One session's place in a room: hears everything, in order, without gaps."""

    def __init__(self, name: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.name = name
        self._socket = socket
        self._said = 0
        self._heard: dict[str, int] = {}

    async def say(self) -> None:
        """Say the next word and listen until it has come back."""
        self._said += 1
        await self._socket.send_json({"who": self.name, "word": self._said})
        while self._heard.get(self.name, 0) < self._said:
            word = await self._socket.receive_json()
            who, number = word["who"], word["word"]
            last = self._heard.get(who, number - 1)
            expect(number == last + 1, f"{self.name} heard word {number} of {who} after {last}")
            self._heard[who] = number


async def session(
    http: aiohttp.ClientSession, number: int, figures: Figures, stop: asyncio.Event
) -> None:
    """Go round until told to stop."""
    async with http.ws_connect(f"/rooms/{number // 2}") as socket:
        room = Room(f"session-{number}", socket)
        turn = 0
        while not stop.is_set():
            turn += 1
            note = {"title": f"<{number}> & {turn}", "text": f"text {turn} " * 20}
            await one_round(http, room, note, figures)


async def one_round(
    http: aiohttp.ClientSession, room: Room, note: dict[str, str], figures: Figures
) -> None:
    async with figures.request("store"), http.post("/api/notes", json=note) as response:
        stored = await response.json()
        expect(response.status == 201, f"storing a note: status {response.status}")
    expect(stored == {"id": stored["id"], **note}, f"another note was stored: {stored}")

    async with figures.request("read"), http.get(f"/api/notes/{stored['id']}") as response:
        expect(await response.json() == stored, "another note was read than was stored")

    async with figures.request("page"), http.get(f"/notes/{stored['id']}") as response:
        page = await response.text()
        title = html.escape(note["title"])
        expect(f"<h1>{title}</h1>" in page and page.endswith("</html>\n"), "a wrong page")

    async with figures.request("stream"), http.get(f"/stream/{LINES_PER_STREAM}") as response:
        lines = [json.loads(line) async for line in response.content]
    wanted = [{"line": line, "of": LINES_PER_STREAM} for line in range(LINES_PER_STREAM)]
    expect(lines == wanted, f"a wrong stream: {len(lines)} lines")

    for _ in range(WORDS_PER_ROUND):
        async with figures.request("room"):
            await room.say()


def tell(event: str, **figures: object) -> None:
    print(json.dumps({"event": event, **figures}), flush=True)


async def measure(figures: Figures, warmup_s: float, seconds: float) -> dict[str, object]:
    """Measure between the warm-up and the end; returns the figures of the whole."""
    await asyncio.sleep(warmup_s)
    figures.measuring = True
    tell("begin")
    begun, cpu_begun = time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - begun) < seconds:
        await asyncio.sleep(min(PROGRESS_INTERVAL_S, seconds - elapsed))
        elapsed = time.perf_counter() - begun
        tell("progress", seconds=elapsed, requests=figures.count())
    cpu_s = time.process_time() - cpu_begun
    figures.measuring = False
    tell("end")
    return {"seconds": elapsed, "cpu_s": cpu_s, "requests": figures.count()}


async def main(url: str, sessions: int, warmup_s: float, seconds: float) -> None:
    figures, stop = Figures(), asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(url, connector=connector) as http,
        asyncio.TaskGroup() as group,
    ):
        for number in range(sessions):
            group.create_task(session(http, number, figures, stop))
        totals = await measure(figures, warmup_s, seconds)
        stop.set()
    tell("result", **totals, kinds=figures.summary())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Many sessions against demo/app.py.")
    parser.add_argument("url")
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    asyncio.run(main(given.url, given.sessions, given.warmup, given.seconds))
