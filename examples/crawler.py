"""A crawler with many requests in flight against a local server, by streams only.

The server answers ``GET /path`` with the links of that page, each after a little wait, as a
real one would. The crawler follows every link once; a semaphore bounds the requests in
flight.
"""

import asyncio

IN_FLIGHT_MAX = 8


def links(path: str) -> list[str]:
    """The links of a page: the front page has 12, each of these has 5, these have none."""
    if path == "/":
        return [f"/{number}" for number in range(12)]
    if path.count("/") == 1:
        return [f"{path}/{number}" for number in range(5)] + ["/"]
    return ["/"]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await reader.readline()
    path = request.split()[1].decode()
    while await reader.readline() != b"\r\n":
        pass
    await asyncio.sleep(0.005)
    body = "\n".join(links(path)).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def fetch(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    headers = await reader.readuntil(b"\r\n\r\n")
    size = int(headers.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()
    return body.decode()


class Crawler:
    """Fetches every page that can be reached from the front page, each once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: set[str] = set()
        self.in_flight = 0
        self.in_flight_most = 0
        self.slots = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def crawl(self, path: str) -> None:
        if path in self.seen:
            return
        self.seen.add(path)
        async with self.slots:
            self.in_flight += 1
            self.in_flight_most = max(self.in_flight_most, self.in_flight)
            body = await fetch(self.port, path)
            self.in_flight -= 1
        async with asyncio.TaskGroup() as group:
            for link in body.split("\n"):
                group.create_task(self.crawl(link))


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        crawler = Crawler(server.sockets[0].getsockname()[1])
        await crawler.crawl("/")
    print("pages:", len(crawler.seen))
    print("last three:", " ".join(sorted(crawler.seen)[-3:]))
    print("most requests in flight:", crawler.in_flight_most)


if __name__ == "__main__":
    asyncio.run(main())
