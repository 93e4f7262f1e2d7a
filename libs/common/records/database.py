"""Postgres access: an engine with deadlines, and transactions.

The caller sees `DatabaseUnavailable` whenever trying again later may help.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import event, make_url
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from libs.common.cancellation import reraise_cancellation
from libs.common.errors import DatabaseUnavailable, RowsRefused
from libs.common.records.sqlstates import READ_ONLY, Meaning, meaning_of
from libs.common.settings import DatabaseSettings

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 10.0
POOL_WAIT_S = 5.0
PREPARED_STATEMENTS = 500  # of each connection: more than a service has


def driver_url(settings: DatabaseSettings) -> str:
    """For SQLAlchemy; it holds the password."""
    url = make_url(settings.url).set(drivername="postgresql+asyncpg", password=settings.password)
    return url.render_as_string(hide_password=False)


def create_engine(
    settings: DatabaseSettings,
    *,
    pool_size: int = 5,
    parameters: Mapping[str, str] | None = None,
) -> AsyncEngine:
    """`parameters` are Postgres's own, for every session."""
    engine = create_async_engine(
        driver_url(settings),
        hide_parameters=True,  # they hold key hashes, names and causes; errors are logged
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_use_lifo=True,  # the connection that was used last has most statements prepared
        connect_args={
            "prepared_statement_cache_size": PREPARED_STATEMENTS,
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S,
            "server_settings": {
                "idle_in_transaction_session_timeout": "30s",
                **(parameters or {}),
            },
        },
    )
    event.listen(engine.sync_engine, "handle_error", _replace_read_only)
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    return engine


def _replace_closed(connection: DBAPIConnection, *_: object) -> None:
    """A connection from before a Postgres restart is replaced unseen. SQLAlchemy's own ping would
    cost three round trips in front of every transaction, and the driver hears of the end anyway."""
    assert isinstance(connection, AdaptedConnection), "the driver is asyncpg"
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the connection was closed")


def _replace_read_only(context: ExceptionContext) -> None:
    """A pool keeps its sessions over a failover, and those with the former primary would stay
    read-only for ever: all sessions are opened anew, to wherever the primary is now."""
    if _sqlstate(context.original_exception.__cause__) == READ_ONLY:
        context.is_disconnect = True


class Database:
    """Transactions for stores. A session's rows are plain values after the block."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @classmethod
    def open(
        cls,
        settings: DatabaseSettings,
        *,
        pool_size: int = 5,
        parameters: Mapping[str, str] | None = None,
    ) -> "Database":
        return cls(create_engine(settings, pool_size=pool_size, parameters=parameters))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commits at the end of the block, rolls back if it raises.

        Raises DatabaseUnavailable if Postgres cannot be reached, restarts, is too slow, or takes
        no writes as at a failover; whether the commit took place is then unknown, so every write
        must bear repetition.
        """
        with reraise_cancellation(), unavailability():
            async with AsyncSession(self.engine, expire_on_commit=False) as session:
                async with session.begin():
                    yield session

    async def close(self) -> None:
        await self.engine.dispose()


class unavailability:
    """Map the drivers' many ways of saying "not now" to DatabaseUnavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, exc: BaseException | None, _tb: object) -> None:
        if exc is not None and is_unavailability(exc):
            sqlstate = _sqlstate(_origin(exc)) or None
            raise DatabaseUnavailable(_unavailable_words(exc), sqlstate=sqlstate) from exc


class row_refusals:
    """Map the drivers' ways of saying that values cannot be stored to RowsRefused."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, exc: BaseException | None, _tb: object) -> None:
        if exc is not None and is_refusal(exc):
            raise RowsRefused(f"Postgres refuses it: {_first_line(exc)}") from exc


def is_unavailability(exc: BaseException) -> bool:
    if is_refusal(exc):
        return False
    if isinstance(exc, DBAPIError) and exc.connection_invalidated:
        return True
    if isinstance(exc, (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError)):
        return True
    origin = _origin(exc)
    if isinstance(origin, (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
        return True
    return meaning_of(_sqlstate(origin)) in (Meaning.OUTAGE, Meaning.CONFLICT)


def is_conflict(exc: BaseException) -> bool:
    """Two transactions met, e.g. in a deadlock: what was rolled back may be tried again."""
    return meaning_of(_sqlstate(_origin(exc))) is Meaning.CONFLICT


def is_refusal(exc: BaseException) -> bool:
    origin = _origin(exc)
    if isinstance(origin, asyncpg.InterfaceError) and isinstance(origin, ValueError):
        return True  # asyncpg itself could not encode a value
    return meaning_of(_sqlstate(origin)) is Meaning.REFUSED


def _origin(exc: BaseException) -> BaseException | None:
    """asyncpg's own error beneath SQLAlchemy's."""
    return exc.orig.__cause__ if isinstance(exc, DBAPIError) and exc.orig else exc


def _sqlstate(exc: BaseException | None) -> str:
    return (exc.sqlstate or "") if isinstance(exc, asyncpg.PostgresError) else ""


def _unavailable_words(exc: BaseException) -> str:
    what = "takes no writes" if _sqlstate(_origin(exc)) == READ_ONLY else "does not answer"
    return f"Postgres {what}: {_first_line(exc)}"


def _first_line(exc: BaseException) -> str:
    lines = str(exc).splitlines()
    return lines[0][:200] if lines else type(exc).__name__
