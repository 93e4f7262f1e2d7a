"""Whether the database has every column that this version of the gateway reads."""

from sqlalchemy import select

from libs.common.records.database import Database
from libs.common.records.tables import (
    ApiKeyRow,
    Base,
    ColdStartRow,
    EndpointRow,
    GpuRow,
    ManifestRow,
    MemoryHourRow,
    ModelRow,
    NodeRow,
    OutboxRow,
    PrefetchRow,
    RequestRow,
    ReservationRow,
    SloHourRow,
    UsageRow,
    WorkerRow,
)

_READ: tuple[type[Base], ...] = (
    ApiKeyRow,
    ColdStartRow,
    EndpointRow,
    GpuRow,
    ManifestRow,
    MemoryHourRow,
    ModelRow,
    NodeRow,
    OutboxRow,
    PrefetchRow,
    RequestRow,
    ReservationRow,
    SloHourRow,
    UsageRow,
    WorkerRow,
)


async def require_columns(database: Database) -> None:
    """Raises DatabaseUnavailable, or SQLAlchemy's ProgrammingError where some are missing."""
    async with database.transaction() as session:
        for table in _READ:
            await session.execute(select(table).limit(0))
