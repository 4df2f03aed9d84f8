"""psycopg's asynchronous connections against a real PostgreSQL.

Facts. psycopg leaves the socket to libpq and only waits for it: around every wait it calls
`add_reader` or `add_writer` and then removes it again, on the same fd, thousands of times; and
it does the same from many connections at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from .databases import PostgresAddress

psycopg = pytest.importorskip("psycopg")


def connect(address: PostgresAddress, **options: Any) -> Any:
    """Connect to `address`: awaitable, to be used with `async with await connect(...)`."""
    return psycopg.AsyncConnection.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        dbname=address.database,
        autocommit=True,
        **options,
    )


def test_many_small_queries(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    async def main() -> None:
        async with await connect(postgres_address) as connection:
            for n in range(1000):
                cursor = await connection.execute("select %s::int", (n,))
                assert await cursor.fetchone() == (n,)

    run(main())


def test_thirty_connections_at_once(
    run: Callable[..., Any], postgres_address: PostgresAddress
) -> None:
    async def main() -> None:
        async def work(n: int) -> int:
            total = 0
            async with await connect(postgres_address) as connection:
                for step in range(20):
                    cursor = await connection.execute("select %s::int", (n * step,))
                    total += (await cursor.fetchone())[0]
            return total

        assert await asyncio.gather(*map(work, range(30))) == [190 * n for n in range(30)]

    run(main())


def test_large_values_and_copy(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    """Large statements need add_writer as well, because libpq's socket fills up."""

    async def main() -> None:
        async with await connect(postgres_address) as connection:
            big = bytes(range(256)) * 80_000
            cursor = await connection.execute("select %b::bytea", (big,))
            assert (await cursor.fetchone())[0] == big
            await connection.execute("create temp table t (n int, s text)")
            async with connection.cursor().copy("copy t from stdin") as copy:
                for n in range(20_000):
                    await copy.write_row((n, f"row {n}"))
            rows = []
            async with connection.cursor().copy("copy t to stdout") as copy:
                async for row in copy.rows():
                    rows.append(row)
            assert rows == [(str(n), f"row {n}") for n in range(20_000)]

    run(main())


def test_pipeline(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    async def main() -> None:
        async with await connect(postgres_address) as connection:
            async with connection.pipeline():
                cursors = [await connection.execute("select %s::int", (n,)) for n in range(200)]
                assert [(await c.fetchone())[0] for c in cursors] == list(range(200))

    run(main())


def test_transactions(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    async def main() -> None:
        async with await connect(postgres_address) as connection:
            await connection.execute("create temp table t (n int)")
            with pytest.raises(LookupError):
                async with connection.transaction():
                    await connection.execute("insert into t values (1)")
                    raise LookupError
            async with connection.transaction():
                await connection.execute("insert into t values (2)")
            cursor = await connection.execute("select n from t")
            assert await cursor.fetchall() == [(2,)]
            with pytest.raises(psycopg.errors.UndefinedTable):
                await connection.execute("select * from nowhere")

    run(main())


def test_notifications(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    async def main() -> None:
        async with await connect(postgres_address) as listener:
            async with await connect(postgres_address) as speaker:
                await listener.execute("listen news")

                async def speak() -> None:
                    for n in range(50):
                        await speaker.execute("select pg_notify('news', %s)", (str(n),))

                speaking = asyncio.ensure_future(speak())
                heard = []
                async for notification in listener.notifies(timeout=20):
                    heard.append(notification.payload)
                    if len(heard) == 50:
                        break
                await speaking
        assert heard == [str(n) for n in range(50)]

    run(main())


def test_running_query_is_cancelled(
    run: Callable[..., Any], postgres_address: PostgresAddress
) -> None:
    async def main() -> None:
        async with await connect(postgres_address) as worker:
            async with await connect(postgres_address) as observer:
                pid = worker.info.backend_pid

                async def is_sleeping() -> bool:
                    cursor = await observer.execute(
                        "select wait_event from pg_stat_activity where pid = %s", (pid,)
                    )
                    return await cursor.fetchone() == ("PgSleep",)

                query = asyncio.ensure_future(worker.execute("select pg_sleep(60)"))
                while not await is_sleeping():
                    await asyncio.sleep(0)
                query.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await query
                cursor = await worker.execute("select 1")
                assert await cursor.fetchone() == (1,)

                query = asyncio.ensure_future(worker.execute("select pg_sleep(60)"))
                while not await is_sleeping():
                    await asyncio.sleep(0)
                await worker.cancel_safe(timeout=10)
                with pytest.raises(psycopg.errors.QueryCanceled):
                    await query

    run(main())
