"""redis-py's asyncio client against a real redis-server, over TCP and over its Unix socket.

Facts. redis-py reads through asyncio's StreamReader and asks its private `_buffer` whether bytes
are waiting; its two parsers (Python's own and hiredis) use the reader differently.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .databases import RedisAddress

redis = pytest.importorskip("redis.asyncio")
connections = pytest.importorskip("redis.asyncio.connection")
redis_errors = pytest.importorskip("redis.exceptions")

LIMIT_S = 10


def pool_to(address: RedisAddress, way: str, **options: Any) -> Any:
    """A pool of blocking connections by `way`, tcp or unix."""
    options = {"decode_responses": True, "max_connections": 20, "timeout": LIMIT_S, **options}
    if way == "unix":
        options.update(
            connection_class=connections.UnixDomainSocketConnection, path=address.unix_path
        )
    else:
        options.update(host=address.host, port=address.port)
    return redis.BlockingConnectionPool(**options)


@contextlib.asynccontextmanager
async def client_of(address: RedisAddress, way: str = "tcp", **options: Any) -> AsyncIterator[Any]:
    """A client whose database is empty at the start."""
    async with redis.Redis.from_pool(pool_to(address, way, **options)) as client:
        await client.flushdb()
        yield client


async def blocked_count(client: Any) -> int:
    """How many clients wait in a blocking command, by the server's own count."""
    return (await client.info("clients"))["blocked_clients"]


@pytest.fixture(params=["tcp", "unix"])
def way(request: pytest.FixtureRequest) -> str:
    """How the client reaches the server."""
    return request.param


@pytest.fixture(params=["python", "hiredis"])
def parser(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The connection option that selects the parser of replies."""
    if request.param == "python":
        return {"parser_class": connections._AsyncRESP2Parser, "protocol": 2}
    pytest.importorskip("hiredis")
    return {"parser_class": connections._AsyncHiredisParser}


def test_values_of_every_size(
    run: Callable[..., Any], redis_address: RedisAddress, way: str, parser: dict[str, Any]
) -> None:
    async def main() -> None:
        async with client_of(redis_address, way, decode_responses=False, **parser) as client:
            for size in (0, 1, 1000, 65_536, 5 << 20):
                value = bytes(range(256)) * (size // 256) + b"\r\n" * (size % 2)
                await client.set("key", value)
                assert await client.get("key") == value

    run(main())


def test_pipeline_and_transaction(
    run: Callable[..., Any], redis_address: RedisAddress, way: str, parser: dict[str, Any]
) -> None:
    async def main() -> None:
        async with client_of(redis_address, way, **parser) as client:
            async with client.pipeline(transaction=False) as pipe:
                for n in range(5000):
                    pipe.set(f"k{n}", n)
                    pipe.get(f"k{n}")
                replies = await pipe.execute()
            assert replies[1::2] == [str(n) for n in range(5000)]

            async with client.pipeline() as pipe:
                await pipe.watch("k1")
                await client.set("k1", "changed by someone else")
                pipe.multi()
                pipe.set("k1", "mine")
                with pytest.raises(redis_errors.WatchError):
                    await pipe.execute()

    run(main())


def test_publish_and_subscribe(
    run: Callable[..., Any], redis_address: RedisAddress, parser: dict[str, Any]
) -> None:
    async def main() -> None:
        async with client_of(redis_address, **parser) as client:
            async with client.pubsub(ignore_subscribe_messages=True) as listener:
                await listener.subscribe("news")
                await listener.psubscribe("weather.*")
                assert await client.execute_command("PING") in (True, "PONG")
                while await client.publish("news", "0") == 0 or not await client.pubsub_numpat():
                    await asyncio.sleep(0)  # the subscription is on its way
                await client.publish("weather.today", "rain")
                for n in range(1, 200):
                    await client.publish("news", str(n))
                heard: dict[str, list[str]] = {"news": [], "weather.today": []}
                while len(heard["news"]) < 200:
                    message = await listener.get_message(timeout=LIMIT_S)
                    if message is not None:
                        heard[message["channel"]].append(message["data"])
        assert heard == {"news": [str(n) for n in range(200)], "weather.today": ["rain"]}

    run(main())


def test_blocking_pop_is_cancelled_and_nothing_is_mixed_up(
    run: Callable[..., Any], redis_address: RedisAddress
) -> None:
    """After a cancelled wait the client must never give one caller another caller's reply."""

    async def main() -> None:
        async with client_of(redis_address, max_connections=2) as client:
            for n in range(20):
                waiting = asyncio.ensure_future(client.blpop("queue", timeout=LIMIT_S))
                while not await blocked_count(client):
                    await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await client.echo(str(n)) == str(n)
                while await blocked_count(client):
                    await asyncio.sleep(0)
            popping = asyncio.ensure_future(client.blpop("queue", timeout=LIMIT_S))
            await client.rpush("queue", "item")
            assert list(await popping) == ["queue", "item"]

    run(main())


def test_two_hundred_tasks_share_a_pool(
    run: Callable[..., Any], redis_address: RedisAddress, way: str
) -> None:
    async def main() -> None:
        async with client_of(redis_address, way, max_connections=10) as client:

            async def work(n: int) -> list[str]:
                await client.set(f"k{n}", n)
                await client.incr("count")
                return [await client.get(f"k{n}") for _ in range(5)]

            results = await asyncio.gather(*map(work, range(200)))
            assert results == [[str(n)] * 5 for n in range(200)]
            assert await client.get("count") == "200"

    run(main())


def test_two_hundred_connections_at_once(
    run: Callable[..., Any], redis_address: RedisAddress
) -> None:
    """Each waits in a blocking pop, which takes a connection of its own; all are served."""

    async def main() -> None:
        async with client_of(redis_address, max_connections=250) as client:
            pops = [
                asyncio.ensure_future(client.blpop(f"q{n}", timeout=LIMIT_S)) for n in range(200)
            ]
            while await blocked_count(client) < 200:
                await asyncio.sleep(0.01)
            for n in range(200):
                await client.rpush(f"q{n}", n)
            assert [list(await pop) for pop in pops] == [[f"q{n}", str(n)] for n in range(200)]

    run(main())


def test_killed_connection_is_replaced(
    run: Callable[..., Any], redis_address: RedisAddress
) -> None:
    async def main() -> None:
        async with client_of(redis_address, retry=None) as client:
            waiting = asyncio.ensure_future(client.blpop("nothing", timeout=LIMIT_S))
            while not (clients := await blocked(client)):
                await asyncio.sleep(0)
            await client.client_kill_filter(_id=clients[0]["id"])
            with pytest.raises(redis_errors.ConnectionError):
                await waiting
            assert await client.ping()

    async def blocked(client: Any) -> list[dict[str, str]]:
        return [one for one in await client.client_list() if "b" in one["flags"]]

    run(main())


def test_timeout_of_the_socket(run: Callable[..., Any], redis_address: RedisAddress) -> None:
    async def main() -> None:
        options = {"socket_timeout": 0.05, "retry": None}
        async with client_of(redis_address, **options) as client:
            with pytest.raises(redis_errors.TimeoutError):
                await client.blpop("nothing", timeout=LIMIT_S)
            assert await client.ping()

    run(main())
