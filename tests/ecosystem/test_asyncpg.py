"""asyncpg against a real PostgreSQL: types, transactions, COPY, LISTEN, cancellation, pools."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from .databases import PostgresAddress

asyncpg = pytest.importorskip("asyncpg")

LIMIT_S = 20


def options_for(address: PostgresAddress, way: str = "tcp") -> dict[str, Any]:
    """The arguments of asyncpg.connect to reach `address` by `way`, tcp or unix."""
    host = address.host if way == "tcp" else address.socket_dir
    return {
        "host": host,
        "port": address.port,
        "user": address.user,
        "database": address.database,
        "timeout": LIMIT_S,
    }


@contextlib.asynccontextmanager
async def connected(address: PostgresAddress, way: str = "tcp") -> AsyncIterator[Any]:
    """A connection that is closed politely at the end."""
    connection = await asyncpg.connect(**options_for(address, way))
    try:
        yield connection
    finally:
        await connection.close(timeout=LIMIT_S)


async def is_sleeping(connection: Any, pid: int) -> bool:
    """Whether the server process `pid` is inside pg_sleep."""
    event = await connection.fetchval("select wait_event from pg_stat_activity where pid=$1", pid)
    return event == "PgSleep"


@pytest.mark.parametrize("way", ["tcp", "unix"])
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_queries(
    run: Callable[..., Any], postgres_address: PostgresAddress, way: str, debug: bool
) -> None:
    async def main() -> None:
        async with connected(postgres_address, way) as connection:
            assert await connection.fetchval("select 6 * 7") == 42
            rows = await connection.fetch(
                "select n, repeat('x', n) as t from generate_series(0, 2000) n"
            )
            assert [(row["n"], len(row["t"])) for row in rows] == [(n, n) for n in range(2001)]
            big = bytes(range(256)) * 40_000
            assert await connection.fetchval("select $1::bytea", big) == big
            with pytest.raises(asyncpg.UndefinedTableError):
                await connection.fetch("select * from nowhere")
            statement = await connection.prepare("select $1::int + $2::int")
            assert [await statement.fetchval(n, 1) for n in range(100)] == list(range(1, 101))

    run(main(), debug=debug)


def test_transactions_and_cursors(
    run: Callable[..., Any], postgres_address: PostgresAddress
) -> None:
    async def main() -> None:
        async with connected(postgres_address) as connection:
            await connection.execute("create temp table t (n int)")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("insert into t values (1)")
                    1 // 0
            async with connection.transaction():
                await connection.executemany(
                    "insert into t values ($1)", [(n,) for n in range(500)]
                )
                with contextlib.suppress(asyncpg.DivisionByZeroError):
                    async with connection.transaction():
                        await connection.execute("insert into t values (1 / 0)")
                cursor = connection.cursor("select n from t order by n", prefetch=7)
                assert [row["n"] async for row in cursor] == list(range(500))
            assert await connection.fetchval("select count(*) from t") == 500

    run(main())


def test_copy_in_and_out(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    count = 100_000

    async def main() -> None:
        async with connected(postgres_address) as connection:
            await connection.execute("create temp table t (n int, s text)")
            records = ((n, f"row {n}") for n in range(count))
            await connection.copy_records_to_table("t", records=records)
            assert await connection.fetchval("select sum(n) from t") == count * (count - 1) // 2
            out = io.BytesIO()
            await connection.copy_from_query("select * from t order by n", output=out, format="csv")
            lines = out.getvalue().splitlines()
            assert lines[0] == b"0,row 0" and lines[-1] == b"99999,row 99999"
            assert len(lines) == count

            async def source() -> AsyncIterator[bytes]:
                yield out.getvalue()[:1_000_000]
                await asyncio.sleep(0)
                yield out.getvalue()[1_000_000:]

            await connection.copy_to_table("t", source=source(), format="csv")
            assert await connection.fetchval("select count(*) from t") == 2 * count

    run(main())


def test_notifications(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    async def main() -> None:
        async with (
            connected(postgres_address) as listener,
            connected(postgres_address) as speaker,
        ):
            heard: asyncio.Queue[str] = asyncio.Queue()
            await listener.add_listener("news", lambda _c, _pid, _ch, text: heard.put_nowait(text))
            for n in range(100):
                await speaker.execute("select pg_notify('news', $1)", str(n))
            assert [await heard.get() for _ in range(100)] == [str(n) for n in range(100)]
            await listener.reset()

    run(main())


def test_running_query_is_cancelled(
    run: Callable[..., Any], postgres_address: PostgresAddress
) -> None:
    """asyncpg cancels by a second connection, then the first is usable again."""

    async def main() -> None:
        async with connected(postgres_address) as worker, connected(postgres_address) as observer:
            pid = worker.get_server_pid()
            for n in range(5):
                query = asyncio.ensure_future(worker.execute("select pg_sleep(60)"))
                while not await is_sleeping(observer, pid):
                    await asyncio.sleep(0)
                query.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await query
                assert await worker.fetchval("select $1::int", n) == n
            with pytest.raises(asyncio.TimeoutError):
                await worker.execute("select pg_sleep(60)", timeout=0.1)
            assert await worker.fetchval("select 1") == 1

    run(main())


def test_pool(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    async def main() -> None:
        pids = set()
        async with asyncpg.create_pool(
            **options_for(postgres_address), min_size=2, max_size=10
        ) as pool:

            async def work(n: int) -> int:
                async with pool.acquire() as connection:
                    pids.add(connection.get_server_pid())
                    return await connection.fetchval("select $1::int * 2", n)

            assert await asyncio.gather(*map(work, range(300))) == [2 * n for n in range(300)]
            assert 2 <= len(pids) <= 10

            async def waste() -> None:
                async with pool.acquire() as connection:
                    await connection.execute("select pg_sleep(60)")

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(waste() for _ in range(10))), 0.2)
            assert await asyncio.gather(*map(work, range(100))) == [2 * n for n in range(100)]

    run(main())


def test_terminated_connection(run: Callable[..., Any], postgres_address: PostgresAddress) -> None:
    async def main() -> None:
        victim = await asyncpg.connect(**options_for(postgres_address))
        terminated = asyncio.get_running_loop().create_future()
        victim.add_termination_listener(lambda _connection: terminated.set_result(True))
        query = asyncio.ensure_future(victim.execute("select pg_sleep(60)"))
        async with connected(postgres_address) as other:
            while not await is_sleeping(other, victim.get_server_pid()):
                await asyncio.sleep(0)
            await other.execute("select pg_terminate_backend($1)", victim.get_server_pid())
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await query
            assert await terminated
        assert victim.is_closed()

    run(main())


def test_server_that_is_not_there(
    run: Callable[..., Any], postgres_address: PostgresAddress, tmp_path: Any
) -> None:
    async def main() -> None:
        options = {**options_for(postgres_address), "host": str(tmp_path), "timeout": 5}
        with pytest.raises(OSError):
            await asyncpg.connect(**options)

    run(main())
