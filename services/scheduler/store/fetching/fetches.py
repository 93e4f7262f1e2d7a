"""Changes to rows of `fetches`; what begins one is in `coldstarts.py`."""

from collections.abc import Collection

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import FetchRow
from libs.common.states import FetchClass
from services.scheduler.store.columns.arrays import is_among

_SET_INTERACTIVE = (
    update(FetchRow)
    .where(is_among(FetchRow.endpoint_id, "endpoint_ids"), FetchRow.is_desired)
    .values(fetch_class=FetchClass.INTERACTIVE.value)
    .execution_options(synchronize_session=False)
)


async def set_interactive(session: AsyncSession, endpoint_ids: Collection[str]) -> None:
    """Somebody waits for what these endpoints fetch."""
    await session.execute(_SET_INTERACTIVE, {"endpoint_ids": list(endpoint_ids)})
