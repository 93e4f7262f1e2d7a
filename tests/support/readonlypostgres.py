"""Makes a Postgres server take no writes for a while, as one does at a failover."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from deploy.local.servers.postgres import PostgresServer
from tests.support.waiting import eventually

_SETTING = "default_transaction_read_only"


@asynccontextmanager
async def read_only(server: PostgresServer) -> AsyncIterator[None]:
    """From the block's beginning to its end, also for sessions that were open before."""
    connection, watcher = await server.connect(), await server.connect()
    try:
        await _set(connection, watcher, f"ALTER SYSTEM SET {_SETTING} = on", "on")
        yield
    finally:
        await _set(connection, watcher, f"ALTER SYSTEM RESET {_SETTING}", "off")
        await connection.close()
        await watcher.close()


async def _set(
    connection: "asyncpg.Connection[asyncpg.Record]",
    watcher: "asyncpg.Connection[asyncpg.Record]",
    statement: str,
    expected: str,
) -> None:
    await connection.execute(statement)
    await connection.execute("SELECT pg_reload_conf()")

    async def holds() -> bool:
        return bool(await watcher.fetchval(f"SHOW {_SETTING}") == expected)

    await eventually(holds, what=f"{_SETTING} {expected}")
