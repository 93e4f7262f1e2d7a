"""One statement for many rows."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Table, Update, bindparam, update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import EndpointRow, NodeRow, WorkerRow


def update_by_id(
    row_class: type[EndpointRow] | type[NodeRow] | type[WorkerRow],
    key: str,
    values: dict[str, Any],
) -> Update:
    """Of the row whose id is the parameter `key`. To be built once."""
    table = cast(Table, row_class.__table__)
    return update(table).where(table.c.id == bindparam(key)).values(values)


async def run_for_all(
    session: AsyncSession, statement: Update, rows: Sequence[dict[str, Any]]
) -> None:
    """With the parameters of each row, in one round trip."""
    if rows:
        await (await session.connection()).execute(statement, rows)
