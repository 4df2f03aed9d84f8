"""A program that was written for asyncio, with one line changed: the import.

A small shop: customers order by TCP, cooks work through a queue, a timer gives up on what takes too
long. Every name that is used here is asyncio's, and comes from oxloop.
"""

import oxloop as asyncio

MENU = {"tea": 0.0, "soup": 0.001, "stew": 60.0}


class Shop:
    def __init__(self) -> None:
        self.orders: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue(maxsize=2)
        self.stove = asyncio.Semaphore(1)
        self.served = 0

    async def cook(self) -> None:
        while True:
            dish, plate = await self.orders.get()
            async with self.stove:
                try:
                    async with asyncio.timeout(0.05):
                        await asyncio.sleep(MENU[dish])
                except TimeoutError:
                    plate.set_result(f"no {dish} today")
                else:
                    plate.set_result(dish)
            self.orders.task_done()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            plate = asyncio.get_running_loop().create_future()
            await self.orders.put((line.decode().strip(), plate))
            writer.write(f"{await plate}\n".encode())
            await writer.drain()
            self.served += 1
        writer.close()


async def customer(port: int, *dishes: str) -> list[str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.writelines(f"{dish}\n".encode() for dish in dishes)
    writer.write_eof()
    answers = (await reader.read()).decode().split("\n")[:-1]
    writer.close()
    await writer.wait_closed()
    return answers


async def main() -> None:
    shop = Shop()
    server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cooks = [asyncio.create_task(shop.cook()) for _ in range(2)]
    async with server:
        async with asyncio.TaskGroup() as group:
            hungry = group.create_task(customer(port, "tea", "soup", "stew"))
            quick = group.create_task(customer(port, "tea"))
        print("the hungry customer got", hungry.result())
        print("the quick customer got", quick.result())
        await asyncio.wait_for(shop.orders.join(), 5)
    for cook in cooks:
        cook.cancel()
    ends = await asyncio.gather(*cooks, return_exceptions=True)
    print("dishes:", shop.served, "cooks ended with", {type(end).__name__ for end in ends})


if __name__ == "__main__":
    asyncio.run(main())
