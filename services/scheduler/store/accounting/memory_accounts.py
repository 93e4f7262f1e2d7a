"""Accounts of device memory x time: of each endpoint in its row, of each model by the hour.

Each moment of a reservation counts once, whoever leads and however often something is decided: the
statement that counts it deletes the reservation, or moves its `counted_until`.
"""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.memory_pieces import idle_s_now, memory_pieces

_HELD = "reservations.worker_id, device_bytes, counted_until, idle_s_before"
_IS_AMONG = "reservations.worker_id = ANY(CAST(:worker_ids AS text[]))"


# The array in `told` lets the planner see that few of all endpoints are meant.
def _count(taken: str, *, stays: bool) -> str:
    """`taken`: a statement that returns, of some reservations, what is to be counted."""
    moved = f""", moved AS (
    UPDATE reservations
    SET counted_until = greatest(now(), reservations.counted_until),
        idle_s_before = {idle_s_now("endpoints")}
    FROM taken JOIN workers ON workers.id = taken.worker_id
        JOIN endpoints ON endpoints.id = workers.endpoint_id
    WHERE reservations.worker_id = taken.worker_id
)"""
    return f"""
WITH taken AS ({taken}), pieces AS ({memory_pieces("taken")}){moved if stays else ""}, own AS (
    SELECT endpoint_id, sum(starting_byte_s) AS starting_byte_s,
        sum(busy_byte_s) AS busy_byte_s, sum(idle_byte_s) AS idle_byte_s
    FROM pieces GROUP BY endpoint_id
), told AS (
    UPDATE endpoints
    SET starting_byte_s = endpoints.starting_byte_s + own.starting_byte_s,
        busy_byte_s = endpoints.busy_byte_s + own.busy_byte_s,
        idle_byte_s = endpoints.idle_byte_s + own.idle_byte_s
    FROM own
    WHERE endpoints.id = own.endpoint_id AND endpoints.id = ANY(ARRAY(SELECT endpoint_id FROM own))
)
INSERT INTO memory_hours (tenant, model_id, hour, starting_byte_s, busy_byte_s, idle_byte_s)
SELECT tenant, model_id, hour, sum(starting_byte_s), sum(busy_byte_s), sum(idle_byte_s)
FROM pieces GROUP BY tenant, model_id, hour ORDER BY tenant, model_id, hour
ON CONFLICT (tenant, model_id, hour) DO UPDATE SET
    starting_byte_s = memory_hours.starting_byte_s + excluded.starting_byte_s,
    busy_byte_s = memory_hours.busy_byte_s + excluded.busy_byte_s,
    idle_byte_s = memory_hours.idle_byte_s + excluded.idle_byte_s
"""


_RELEASE = text(
    _count(f"DELETE FROM reservations WHERE {_IS_AMONG} RETURNING {_HELD}", stays=False)
)
_COUNT_HELD = text(
    _count(f"SELECT {_HELD} FROM reservations WHERE {_IS_AMONG} FOR UPDATE", stays=True)
)
_IS_OLD = "counted_until < date_trunc('hour', now(), 'UTC')"
_COUNT_ENDED_HOURS = text(
    _count(
        f"""SELECT {_HELD} FROM reservations WHERE {_IS_OLD}
    ORDER BY counted_until LIMIT :max_rows FOR UPDATE""",
        stays=True,
    )
)
_HAS_ENDED_HOURS = text(f"SELECT EXISTS (SELECT FROM reservations WHERE {_IS_OLD})")


async def release(session: AsyncSession, worker_ids: Collection[str]) -> None:
    """The memory of these workers is free, and counted. Of one that has none nothing happens."""
    if worker_ids:
        await session.execute(_RELEASE, {"worker_ids": list(worker_ids)})


async def count_held(session: AsyncSession, worker_ids: Collection[str]) -> None:
    """Until now, before their reservations become others."""
    if worker_ids:
        await session.execute(_COUNT_HELD, {"worker_ids": list(worker_ids)})


async def count_ended_hours(session: AsyncSession, max_rows: int) -> bool:
    """Of workers that live since an hour before this one; whether there are more of them."""
    await session.execute(_COUNT_ENDED_HOURS, {"max_rows": max_rows})
    return bool(await session.scalar(_HAS_ENDED_HOURS))
