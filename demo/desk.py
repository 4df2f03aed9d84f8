"""The demo's second program: an order desk on streams, queues, locks and task groups.

    python demo/desk.py [--clients N] [--seconds S]

An ordinary asyncio program of one process. Clients send orders as lines over TCP; the desk's
handlers put them into a queue, workers take stock under a lock and answer through futures. Every
answer is checked. The last line on stdout is JSON: orders answered, seconds, and CPU seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

WORKERS = 8
ORDERS_AT_ONCE = 10


class Desk:
    """Takes orders of so many pieces and numbers them; stock is unlimited but counted."""

    def __init__(self) -> None:
        self.sold = 0
        self._orders: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue(100)
        self._stock = asyncio.Lock()

    async def work(self) -> None:
        """One worker: for ever the next order."""
        while True:
            pieces, answer = await self._orders.get()
            async with self._stock:
                self.sold += pieces
            if not answer.done():
                answer.set_result(pieces)

    async def order(self, pieces: int) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await self._orders.put((pieces, answer))
        return await answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client: lines of numbers in, the same numbers out, each line answered at once."""
        while line := await reader.readline():
            answers = await asyncio.gather(*(self.order(int(number)) for number in line.split()))
            writer.write(b" ".join(b"%d" % pieces for pieces in answers) + b"\n")
            await writer.drain()
        writer.close()


async def buy(port: int, number: int, until_s: float) -> int:
    """One client: orders until the time is over. Returns how many were answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = b" ".join(b"%d" % (number + i) for i in range(ORDERS_AT_ONCE)) + b"\n"
    orders = 0
    while time.monotonic() < until_s:
        writer.write(line)
        async with asyncio.timeout(30):
            answer = await reader.readline()
        if answer != line:
            raise SystemExit(f"client {number} asked {line!r} and was answered {answer!r}")
        orders += ORDERS_AT_ONCE
    writer.close()
    await writer.wait_closed()
    return orders


async def main(clients: int, seconds: float) -> None:
    desk = Desk()
    workers = [asyncio.create_task(desk.work()) for _ in range(WORKERS)]
    server = await asyncio.start_server(desk.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    begun_s, cpu_begun_s = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        buyers = [
            group.create_task(buy(port, number, begun_s + seconds)) for number in range(clients)
        ]
    took_s, cpu_s = time.monotonic() - begun_s, time.process_time() - cpu_begun_s
    orders = sum(buyer.result() for buyer in buyers)
    per_client = ORDERS_AT_ONCE * (ORDERS_AT_ONCE - 1) // 2
    expected = sum(
        buyer.result() // ORDERS_AT_ONCE * (number * ORDERS_AT_ONCE + per_client)
        for number, buyer in enumerate(buyers)
    )
    if desk.sold != expected:
        raise SystemExit(f"{desk.sold} pieces were sold, {expected} ordered")
    server.close()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    print(json.dumps({"orders": orders, "seconds": took_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An order desk and its clients.")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    asyncio.run(main(given.clients, given.seconds))
