"""Reads what models cost and how they kept their SLOs, from rows of hours and of days.

Of device memory what live workers hold is added, from when each was last counted. So no statement
looks at endpoints or requests of the past.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.database import Database
from libs.common.records.memory_pieces import memory_pieces
from libs.common.states import SloMiss
from services.gateway.store.usage_views import (
    DayUsage,
    MemoryTime,
    ModelUsage,
    SloCounts,
    Usage,
    UsageReport,
    memory_time,
    slo_counts,
)

_BYTE_SECONDS = "starting_byte_s, busy_byte_s, idle_byte_s"
_SUMS_OF_MEMORY = (
    "sum(starting_byte_s) AS starting_byte_s, sum(busy_byte_s) AS busy_byte_s,"
    " sum(idle_byte_s) AS idle_byte_s"
)
_NUMBERS = ("num_met", *(f"num_{miss.value}" for miss in SloMiss))
_SUMS_OF_NUMBERS = ", ".join(f"sum({name}) AS {name}" for name in _NUMBERS)
_SINCE = "date_trunc('hour', now() - make_interval(hours => :hours), 'UTC')"
_MODEL = "tenant = :tenant AND model_id = :model_id"
_MOMENTS = text(f"SELECT {_SINCE} AS since, now() AS until")


def _memory(where: str) -> str:
    """By hours, with what is not counted yet; `where`: whose."""
    return f"""
        SELECT tenant, model_id, hour, {_BYTE_SECONDS} FROM memory_hours WHERE {where}
        UNION ALL
        SELECT tenant, model_id, hour, {_BYTE_SECONDS}
        FROM ({memory_pieces("reservations")}) AS held WHERE {where}"""


def _report(where: str) -> str:
    """What costs most comes first."""
    where_since = f"{where} AND hour >= {_SINCE}"
    numbers = ", ".join(f"coalesce(slos.{name}, 0)::bigint AS {name}" for name in _NUMBERS)
    return f"""
    WITH memory AS (
        SELECT tenant, model_id, {_SUMS_OF_MEMORY} FROM ({_memory(where_since)}) AS all_hours
        GROUP BY tenant, model_id
    ), slos AS (
        SELECT tenant, model_id, {_SUMS_OF_NUMBERS} FROM slo_hours WHERE {where_since}
        GROUP BY tenant, model_id
    )
    SELECT tenant, model_id, models.name AS model, {numbers},
        coalesce(starting_byte_s, 0) AS starting_byte_s, coalesce(busy_byte_s, 0) AS busy_byte_s,
        coalesce(idle_byte_s, 0) AS idle_byte_s
    FROM memory FULL JOIN slos USING (tenant, model_id)
        LEFT JOIN (SELECT id, name FROM models) AS models ON models.id = model_id
    ORDER BY coalesce(starting_byte_s + busy_byte_s + idle_byte_s, 0) DESC, tenant, model_id
    LIMIT :limit
    """


def _days(where: str) -> str:
    """The newest first, of a day what costs most. Memory of hours that were forgotten is in
    `usage`."""
    since = "date_trunc('day', now(), 'UTC') - make_interval(days => CAST(:days AS int) - 1)"
    nothing = "0::bigint, 0::bigint, 0::bigint"
    return f"""
    SELECT days.*, models.name AS model FROM (
        SELECT tenant, model_id, day, sum(num_requests)::bigint AS num_requests,
            sum(num_prompt_tokens)::bigint AS num_prompt_tokens,
            sum(num_generated_tokens)::bigint AS num_generated_tokens, {_SUMS_OF_MEMORY}
        FROM (
            SELECT tenant, model_id, day, num_requests, num_prompt_tokens, num_generated_tokens,
                {_BYTE_SECONDS}
            FROM usage WHERE {where} AND day >= (({since}) AT TIME ZONE 'UTC')::date
            UNION ALL
            SELECT tenant, model_id, (hour AT TIME ZONE 'UTC')::date, {nothing}, {_BYTE_SECONDS}
            FROM ({_memory(f"{where} AND hour >= {since}")}) AS all_hours
        ) AS parts
        GROUP BY tenant, model_id, day
    ) AS days LEFT JOIN (SELECT id, name FROM models) AS models ON models.id = model_id
    ORDER BY day DESC, starting_byte_s + busy_byte_s + idle_byte_s DESC, tenant, model_id
    LIMIT :limit
    """


_REPORT, _REPORT_OF_ALL = text(_report("tenant = :tenant")), text(_report("true"))
_REPORT_OF_MODEL = text(_report(_MODEL))
_DAYS, _DAYS_OF_ALL = text(_days("tenant = :tenant")), text(_days("true"))
_NOTHING = Usage(memory_time(0.0, 0.0, 0.0), slo_counts(0, {}))


@dataclass(frozen=True)
class UsageStore:
    """Every method raises DatabaseUnavailable. `tenant`: None for everybody's."""

    database: Database

    async def report(self, tenant: str | None, hours: int, limit: int) -> UsageReport:
        """Of the hours that touch the last so many hours; of many models those that cost most."""
        statement = _REPORT_OF_ALL if tenant is None else _REPORT
        values = {"hours": hours, "limit": limit} | ({} if tenant is None else {"tenant": tenant})
        async with self.database.transaction() as session:
            moments = (await session.execute(_MOMENTS, {"hours": hours})).one()
            rows = (await session.execute(statement, values)).all()
        return UsageReport(moments.since, moments.until, tuple(map(_model_usage, rows)))

    async def of_model(self, tenant: str, model_id: str, hours: tuple[int, ...]) -> list[Usage]:
        """For each of these numbers of hours."""
        async with self.database.transaction() as session:
            return [await _of_model(session, tenant, model_id, number) for number in hours]

    async def days(self, tenant: str | None, days: int, limit: int) -> tuple[DayUsage, ...]:
        """Of the last so many days (UTC), today with them."""
        statement = _DAYS_OF_ALL if tenant is None else _DAYS
        values = {"days": days, "limit": limit} | ({} if tenant is None else {"tenant": tenant})
        async with self.database.transaction() as session:
            rows = (await session.execute(statement, values)).all()
        return tuple(map(_day_usage, rows))


async def _of_model(session: AsyncSession, tenant: str, model_id: str, hours: int) -> Usage:
    values = {"tenant": tenant, "model_id": model_id, "hours": hours, "limit": 1}
    row = (await session.execute(_REPORT_OF_MODEL, values)).one_or_none()
    return _NOTHING if row is None else Usage(_memory_time(row), _slo(row))


def _model_usage(row: Any) -> ModelUsage:
    return ModelUsage(_memory_time(row), _slo(row), row.tenant, row.model_id, row.model)


def _day_usage(row: Any) -> DayUsage:
    return DayUsage(
        row.tenant,
        row.model_id,
        row.model,
        row.day,
        row.num_requests,
        row.num_prompt_tokens,
        row.num_generated_tokens,
        _memory_time(row),
    )


def _memory_time(row: Any) -> MemoryTime:
    return memory_time(float(row.starting_byte_s), float(row.busy_byte_s), float(row.idle_byte_s))


def _slo(row: Any) -> SloCounts:
    return slo_counts(row.num_met, {miss: getattr(row, f"num_{miss.value}") for miss in SloMiss})
