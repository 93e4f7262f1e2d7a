"""Rows of `request_losses`: endpoints that requests were lost with. Each counts once."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import RequestLossRow, RequestRow
from libs.common.states import LossKind
from services.scheduler.policy.cluster import RequestLoss
from services.scheduler.store.columns.ages import age_s

_ADD = (
    insert(RequestLossRow)
    .values(
        request_id=bindparam("request_id"),
        endpoint_id=bindparam("endpoint_id"),
        has_progressed=bindparam("has_progressed"),
    )
    .on_conflict_do_nothing()
)
_LOAD = (
    select(
        RequestLossRow.request_id,
        RequestLossRow.endpoint_id,
        RequestLossRow.has_progressed,
        RequestLossRow.kind,
        age_s(RequestLossRow.reported_at).label("age_s"),
    )
    .join(RequestRow, RequestRow.id == RequestLossRow.request_id)
    .order_by(RequestLossRow.reported_at, RequestLossRow.endpoint_id)
)
# Requests that a gateway holds at the moment are skipped, as where they are assigned.
_COUNT = text(
    """
    WITH free AS (
        SELECT requests.id, given.endpoint_id FROM requests
        JOIN unnest(CAST(:request_ids AS text[]), CAST(:endpoint_ids AS text[]))
            AS given (request_id, endpoint_id) ON given.request_id = requests.id
        WHERE requests.state <> 'ENDED'
        FOR UPDATE OF requests SKIP LOCKED
    ), counted AS (
        UPDATE request_losses AS losses SET kind = :kind FROM free
        WHERE losses.request_id = free.id AND losses.endpoint_id = free.endpoint_id
            AND losses.kind IS NULL
        RETURNING losses.request_id, losses.endpoint_id
    ), added AS (
        UPDATE requests SET
            num_engine_crashes = num_engine_crashes + totals.number * :is_engine_crash,
            num_node_losses = num_node_losses + totals.number * :is_node_loss
        FROM (SELECT request_id, count(*) AS number FROM counted GROUP BY request_id) AS totals
        WHERE requests.id = totals.request_id
    )
    SELECT request_id, endpoint_id FROM counted
    """
)


async def add(
    session: AsyncSession, request_id: str, endpoint_id: str, *, has_progressed: bool
) -> None:
    """However often it is reported, it is one."""
    values = {
        "request_id": request_id,
        "endpoint_id": endpoint_id,
        "has_progressed": has_progressed,
    }
    await session.execute(_ADD, values)


def of_requests(are_wanted: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """A statement for `load`: the losses of those for whose rows the condition holds."""
    return _LOAD.where(are_wanted)


async def load(
    session: AsyncSession,
    now_s: float,
    query: Select[*tuple[Any, ...]],
    values: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, list[RequestLoss]]:
    """By request. `query`: one of `of_requests`, with the values of its parameters."""
    found: defaultdict[str, list[RequestLoss]] = defaultdict(list)
    for row in await session.execute(query, values):
        kind = None if row.kind is None else LossKind(row.kind)
        loss = RequestLoss(row.endpoint_id, now_s - row.age_s, row.has_progressed, kind)
        found[row.request_id].append(loss)
    return found


async def count(
    session: AsyncSession, losses: Collection[tuple[str, str]], kind: LossKind
) -> frozenset[tuple[str, str]]:
    """Of these pairs of request and endpoint, those that had not been counted until now."""
    rows = await session.execute(
        _COUNT,
        {
            "request_ids": [request_id for request_id, _ in losses],
            "endpoint_ids": [endpoint_id for _, endpoint_id in losses],
            "kind": kind.value,
            "is_engine_crash": int(kind is LossKind.ENGINE_CRASH),
            "is_node_loss": int(kind is LossKind.NODE_LOSS),
        },
    )
    return frozenset((row.request_id, row.endpoint_id) for row in rows)
