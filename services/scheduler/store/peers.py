"""Neighbours in the rows of `workers`: part of what a node is told to run."""

from sqlalchemy import literal, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import Peer
from libs.common.records.tables import WorkerRow


async def set_neighbours(
    session: AsyncSession, worker_id: str, previous: Peer, following: Peer
) -> None:
    known = {
        "previous": previous.model_dump(mode="json"),
        "next": following.model_dump(mode="json"),
    }
    await session.execute(
        update(WorkerRow)
        .where(WorkerRow.id == worker_id)
        .values(spec=WorkerRow.spec.op("||")(literal(known, JSONB)))
        .execution_options(synchronize_session=False)
    )
