"""Statements about any number of rows: sets as one argument (a statement has room for 32,767),
and one statement executed for many rows."""

from collections.abc import Collection, Sequence
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    String,
    Table,
    Update,
    any_,
    bindparam,
    literal,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from libs.common.records.tables import EndpointRow, NodeRow, WorkerRow


def texts(values: Collection[str]) -> BindParameter[Any]:
    return literal(list(values), ARRAY(String))


TextColumn = ColumnElement[str] | InstrumentedAttribute[str] | InstrumentedAttribute[str | None]


def is_one_of(column: TextColumn, values: Collection[str]) -> ColumnElement[bool]:
    return column == any_(texts(values))


def is_among(column: TextColumn, parameter: str) -> ColumnElement[bool]:
    """As of `is_one_of`, of a list that comes with each execution. For statements that are built
    once: building one takes twice as long as running it."""
    return column == any_(bindparam(parameter, type_=ARRAY(String)))


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
