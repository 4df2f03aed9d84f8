"""An aiohttp program as people write them: it knows nothing of the event loop that runs it.

It prints the port that it listens on, the loop's type, and a line when its clean-up has run.
A request to /hold is answered when the process gets SIGUSR1.
"""

import asyncio
import signal
import socket

from aiohttp import web

RELEASED = web.AppKey("released", asyncio.Event)


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def hold(request: web.Request) -> web.Response:
    print("HOLDING", flush=True)
    await request.app[RELEASED].wait()
    return web.Response(text="released")


async def lifetime(app: web.Application):
    loop = asyncio.get_running_loop()
    app[RELEASED] = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, app[RELEASED].set)
    print(f"LOOP {type(loop).__module__}.{type(loop).__qualname__}", flush=True)
    yield
    loop.remove_signal_handler(signal.SIGUSR1)
    print("CLEANED UP", flush=True)


def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/", hello), web.get("/hold", hold)])
    app.cleanup_ctx.append(lifetime)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"LISTENING {listener.getsockname()[1]}", flush=True)
        web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()
