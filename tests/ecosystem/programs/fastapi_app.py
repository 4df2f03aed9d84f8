"""A FastAPI application as people write them, for uvicorn; it never names an event loop.

It prints a line at the start and at the end of its life, and one when an upload has begun.
"""

import asyncio
import contextlib
import hashlib

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class Order(BaseModel):
    item: str
    count: int


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.done = {}
    loop_type = type(asyncio.get_running_loop())
    print(f"LIFESPAN BEGINS {loop_type.__module__}.{loop_type.__qualname__}", flush=True)
    yield
    print("LIFESPAN ENDS", flush=True)


app = FastAPI(lifespan=lifespan)


@app.post("/orders")
async def order(order: Order) -> dict[str, str | int]:
    if order.count < 1:
        raise HTTPException(409, "nothing ordered")
    return {"item": order.item, "count": order.count}


@app.get("/threads")
def in_a_thread(n: int) -> int:
    """Not a coroutine function, so the framework runs it in a worker thread."""
    return n * n


@app.get("/stream")
async def stream(count: int) -> StreamingResponse:
    async def lines():
        for n in range(count):
            await asyncio.sleep(0)
            yield f"{n}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/upload")
async def upload(request: Request) -> dict[str, str]:
    digest = hashlib.sha256()
    begun = False
    async for piece in request.stream():
        digest.update(piece)
        if not begun:
            print("UPLOAD BEGUN", flush=True)
            begun = True
    return {"sha256": digest.hexdigest()}


@app.post("/jobs/{name}")
async def job(name: str, later: BackgroundTasks) -> str:
    app.state.done[name] = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        app.state.done[name].set()

    later.add_task(work)
    return "accepted"


@app.get("/jobs/{name}")
async def job_done(name: str) -> str:
    await app.state.done[name].wait()
    return "done"


@app.get("/broken")
async def broken() -> None:
    raise LookupError("a bug of the application")


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as gone:
        print(f"WEBSOCKET CLOSED {gone.code}", flush=True)
