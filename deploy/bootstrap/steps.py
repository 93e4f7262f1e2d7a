"""What is made, in which order. Everything may run again: it heals, and changes nothing else."""

import asyncio
import logging
import os

import asyncpg

from deploy.bootstrap.bucket import make_bucket
from deploy.bootstrap.nats_config import render_config
from deploy.bootstrap.object_sweeper import ObjectSweeper
from deploy.bootstrap.object_verifier import ObjectVerifier
from deploy.bootstrap.postgres_roles import create_database, create_roles
from deploy.bootstrap.settings import NatsSettings, ServerSettings
from deploy.bootstrap.store_users import make_users
from libs.common.objectstore.s3ranges import S3RangeSource
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.records.migrate import migrate

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 10.0


def write_nats_config(settings: NatsSettings) -> None:
    """Whole or not at all, and for its owner's eyes: it holds every service's password."""
    unfinished = settings.path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(render_config(settings.config))
    unfinished.rename(settings.path)
    logger.info("wrote %s for %d users", settings.path, len(settings.config.users))


async def prepare_servers(settings: ServerSettings) -> None:
    """Roles, database and schema; bucket and users. Raises what the clients raise."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_prepare_postgres(settings))
        group.create_task(asyncio.to_thread(_prepare_store, settings))


async def _prepare_postgres(settings: ServerSettings) -> None:
    connection = await asyncpg.connect(
        settings.administrator.url,
        password=settings.administrator.password,
        timeout=_CONNECT_TIMEOUT_S,
    )
    try:
        await create_roles(connection, settings.roles)
        await create_database(connection, settings.database, settings.roles)
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)
    await migrate(settings.owner)
    logger.info("the database %s is at this version's schema", settings.database)


def _prepare_store(settings: ServerSettings) -> None:
    make_bucket(settings.store, settings.bucket)
    make_users(settings.store, settings.bucket, settings.store_users)
    logger.info("the bucket %s has %d users", settings.bucket, len(settings.store_users))


async def sweep_objects(settings: ServerSettings, *, is_dry_run: bool) -> None:
    """Raises what `ObjectSweeper.sweep` raises."""
    connection = await asyncpg.connect(
        settings.owner.url, password=settings.owner.password, timeout=_CONNECT_TIMEOUT_S
    )
    try:
        async with S3ObjectStore(settings.object_store) as store:
            swept = await ObjectSweeper(connection, store, is_dry_run).sweep()
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)
    logger.info(
        "%d objects belong to models, %d (%d bytes) to none: %s",
        *(swept.num_kept, len(swept.orphans), swept.num_bytes),
        "nothing was deleted, --delete does" if is_dry_run else f"deleted {swept.num_deleted}",
    )


async def verify_objects(settings: ServerSettings) -> None:
    """Raises what `ObjectVerifier.verify` raises."""
    connection = await asyncpg.connect(
        settings.owner.url, password=settings.owner.password, timeout=_CONNECT_TIMEOUT_S
    )
    try:
        async with S3ObjectStore(settings.object_store) as store:
            source = S3RangeSource(settings.object_store)
            verifier = ObjectVerifier(connection, store, source, settings.verify_bytes_per_s)
            verified = await verifier.verify()
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)
    logger.info(
        "%d objects (%d bytes) were read, %d are damaged%s",
        *(verified.num_verified, verified.num_bytes, len(verified.damaged)),
        ": models that need them are imported again" if verified.damaged else "",
    )
