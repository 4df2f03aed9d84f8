"""An echo server and its clients.

``echo.py`` runs both in one program; ``echo.py serve PORT`` runs the server alone and
``echo.py talk PORT`` a client that talks to it.
"""

import asyncio
import sys

HOST = "127.0.0.1"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def talk(port: int, name: str = "client") -> list[str]:
    reader, writer = await asyncio.open_connection(HOST, port)
    answers = []
    for word in ("hello", "how are you", "good-bye"):
        writer.write(f"{name}: {word}\n".encode())
        await writer.drain()
        answers.append((await reader.readline()).decode().rstrip())
    writer.close()
    await writer.wait_closed()
    return answers


async def serve(port: int) -> None:
    server = await asyncio.start_server(echo, HOST, port)
    print(f"listening on {server.sockets[0].getsockname()}", flush=True)
    async with server:
        await server.serve_forever()


async def both() -> None:
    server = await asyncio.start_server(echo, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        talks = [talk(port, f"client {number}") for number in range(3)]
        for answers in await asyncio.gather(*talks):
            print(*answers, sep="\n")


async def main(arguments: list[str]) -> None:
    match arguments:
        case []:
            await both()
        case ["serve", port]:
            await serve(int(port))
        case ["talk", port]:
            print(*await talk(int(port)), sep="\n")
        case _:
            sys.exit("usage: echo.py [serve PORT | talk PORT]")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("stopped")
