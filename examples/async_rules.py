"""What `await`, `yield` and `return` may do in a coroutine, and the error of each misuse.

Some rules are Python's grammar and are shown by compiling a line; the others show when the
code runs. What is forgotten (a coroutine never awaited, a failure never looked at) raises
nothing: it is reported, as a warning or to the loop's exception handler.
"""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Generator


def compiled(title: str, source: str) -> None:
    try:
        compile(source, "example", "exec")
    except SyntaxError as error:
        print(f"{title}: SyntaxError: {error.msg}")
    else:
        print(f"{title}: fine")


def grammar() -> None:
    compiled("await in a coroutine", "async def f(): return await g()")
    compiled("await in a function", "def f(): await g()")
    compiled("async with in a function", "def f():\n async with g(): pass")
    compiled("yield in a coroutine", "async def f(): yield 1")
    compiled("yield from in a coroutine", "async def f(): yield from g()")
    compiled("return a value from a coroutine", "async def f(): return 1")
    compiled("return a value from an async generator", "async def f():\n yield 1\n return 1")


async def coroutine() -> str:
    return "result"


async def generator() -> object:
    yield 1


async def failing() -> None:
    raise ValueError("nobody looked at me")


class Yields:
    """An awaitable that yields something to the loop."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __await__(self) -> Generator[object, None, str]:
        yield self.thing
        return "resumed"


async def attempt(title: str, thing: Awaitable[object] | object) -> None:
    try:
        print(f"{title}: {await thing!r}")  # type: ignore[misc]
    except (TypeError, RuntimeError) as error:
        print(f"{title}: {type(error).__name__}: {str(error).split(' <')[0]}")


async def awaiting() -> None:
    await attempt("await a coroutine", coroutine())
    await attempt("await a task", asyncio.ensure_future(coroutine()))
    await attempt("await a number", 1)
    await attempt("await the function instead of its call", coroutine)
    await attempt("await an async generator", generator())
    print("async for over an async generator:", [number async for number in generator()])

    once = coroutine()
    await once
    await attempt("await a coroutine again", once)
    task = asyncio.ensure_future(coroutine())
    await task
    await attempt("await a task again", task)

    await attempt("an awaitable that yields None", Yields(None))
    await attempt("an awaitable that yields a number", Yields(1))
    future = asyncio.get_running_loop().create_future()
    await attempt("an awaitable that yields a bare future", Yields(future))

    async def itself() -> None:
        await attempt("await the own task", asyncio.current_task())

    await asyncio.create_task(itself())


async def results() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    try:
        task.result()
    except asyncio.InvalidStateError as error:
        print(f"result() too early: InvalidStateError: {error}")
    await task
    try:
        task.set_result(1)
    except RuntimeError as error:
        print(f"set_result() on a task: RuntimeError: {error}")
    try:
        asyncio.create_task(generator())  # type: ignore[arg-type]
    except TypeError as error:
        print(f"create_task() of no coroutine: TypeError: {str(error).split(', got')[0]}")


async def forgotten() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        coroutine()  # no await
        gc.collect()
    print("never awaited:", *(warning.message for warning in caught))

    reports: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: reports.append(f"{context['message']}: {context['exception']!r}")
    )
    task = asyncio.create_task(failing())
    await asyncio.wait([task])
    del task
    gc.collect()
    print("never retrieved:", *reports)
    loop.set_exception_handler(None)


async def nested_run() -> None:
    inner = coroutine()
    try:
        asyncio.run(inner)
    except RuntimeError as error:
        print(f"run() in a coroutine: RuntimeError: {error}")
    inner.close()


def outside() -> None:
    inner = coroutine()
    try:
        asyncio.create_task(inner)
    except RuntimeError as error:
        print(f"create_task() without a loop: RuntimeError: {error}")
    inner.close()
    print("a coroutine is only an object:", type(coroutine).__name__, "gives", end=" ")
    inner = coroutine()
    print(type(inner).__name__)
    try:
        inner.send(None)
    except StopIteration as stop:
        print("driven by hand it returns through StopIteration:", stop.value)


async def main() -> None:
    await awaiting()
    await results()
    await forgotten()
    await nested_run()


if __name__ == "__main__":
    grammar()
    outside()
    asyncio.run(main())
