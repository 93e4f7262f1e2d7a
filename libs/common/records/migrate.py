"""The schema's migrations, for whoever owns it. Apart from `database`: gateways have no alembic."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from libs.common.cancellation import reraise_cancellation
from libs.common.records.database import CONNECT_TIMEOUT_S, driver_url, unavailability
from libs.common.settings import DatabaseSettings

MIGRATION_LOCK = 0x6879_6472_616D  # "hydram"; the leader's lock is another number
MIGRATION_TIMEOUT_S = 60.0
MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(settings: DatabaseSettings) -> None:
    """Bring the schema to this version, one process at a time (advisory lock). Owner role only.

    Raises DatabaseUnavailable.
    """
    engine = create_async_engine(
        driver_url(settings),
        hide_parameters=True,
        poolclass=NullPool,
        connect_args={"timeout": CONNECT_TIMEOUT_S},
    )
    try:
        with reraise_cancellation(), unavailability():
            async with asyncio.timeout(MIGRATION_TIMEOUT_S), engine.begin() as connection:
                # Released with the transaction, also when this process dies.
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
                )
                await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def alembic_config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    command.upgrade(alembic_config(connection), "head")
