"""Rows of `requests`: one request's beginning, assignment and end.

The gateways end their own rows, so statements here skip rows that somebody holds at the moment.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    RowMapping,
    and_,
    bindparam,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import RequestRow
from libs.common.states import RequestOutcome, RequestState
from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.store import request_losses
from services.scheduler.store.columns.ages import age_s
from services.scheduler.store.columns.arrays import is_among, is_one_of
from services.scheduler.store.columns.text import storable

# Repeats the condition of the partial index `ix_requests_open`, so that it is used.
IS_OPEN = RequestRow.state != RequestState.ENDED.value
IS_QUEUED = and_(IS_OPEN, RequestRow.state == RequestState.QUEUED.value)
IS_ASSIGNED = and_(IS_OPEN, RequestRow.state == RequestState.ASSIGNED.value)
_COLUMNS = (
    RequestRow.id,
    RequestRow.tenant,
    RequestRow.model_id,
    RequestRow.gateway_id,
    RequestRow.attempt,
    RequestRow.state,
    RequestRow.endpoint_id,
    RequestRow.outcome,
    RequestRow.error,
)
# Built once: on the path of every submission, building a statement costs more than running it.
_FIND_LOCKED = select(*_COLUMNS).where(RequestRow.id == bindparam("request_id")).with_for_update()
_FIND_ALL_LOCKED = (
    select(*_COLUMNS)
    .where(is_among(RequestRow.id, "request_ids"))
    .order_by(RequestRow.id)
    .with_for_update()
)
_OPEN = select(
    RequestRow.id,
    RequestRow.model_id,
    RequestRow.gateway_id,
    RequestRow.attempt,
    RequestRow.num_engine_crashes,
    RequestRow.num_node_losses,
    RequestRow.state,
    RequestRow.endpoint_id,
    age_s(RequestRow.arrived_at).label("waited_s"),
    RequestRow.num_prompt_tokens,
    (-age_s(RequestRow.deadline_at)).label("remaining_s"),
)
_OPEN_IN_ORDER = _OPEN.where(IS_OPEN).order_by(RequestRow.arrived_at, RequestRow.id)
_IS_NAMED = or_(is_among(RequestRow.model_id, "model_ids"), is_among(RequestRow.id, "request_ids"))
_OPEN_NAMED = _OPEN_IN_ORDER.where(_IS_NAMED)
_LOSSES = request_losses.of_requests(IS_OPEN)
_LOSSES_NAMED = request_losses.of_requests(and_(IS_OPEN, _IS_NAMED))
_MODEL_IDS = select(RequestRow.model_id).where(is_among(RequestRow.id, "request_ids")).distinct()
_VERSIONS = text(
    """
    SELECT array_agg(id || ' ' || CASE WHEN lost IS NULL THEN open.xmin::text ELSE '' END)
    FROM requests AS open
    LEFT JOIN (SELECT DISTINCT request_id AS lost FROM request_losses) AS losses ON lost = id
    WHERE state <> 'ENDED'
    """
)
# Rows that a gateway holds at the moment are skipped: two that lock many rows in their own order
# would lock each other out.
_ASSIGN = text(
    """
    WITH free AS (
        SELECT requests.id, given.endpoint_id, given.cold_start_id FROM requests
        JOIN unnest(
            CAST(:ids AS text[]), CAST(:attempts AS bigint[]),
            CAST(:endpoint_ids AS text[]), CAST(:cold_start_ids AS text[])
        ) AS given (id, attempt, endpoint_id, cold_start_id)
            ON given.id = requests.id AND given.attempt = requests.attempt
        WHERE requests.state = 'QUEUED'
        FOR UPDATE OF requests SKIP LOCKED
    )
    UPDATE requests SET state = 'ASSIGNED', endpoint_id = endpoints.id,
        assigned_at = coalesce(requests.assigned_at, now()),
        cold_start_id = CASE
            WHEN requests.arrived_at < coalesce(endpoints.ready_at, now())
            THEN free.cold_start_id
            ELSE requests.cold_start_id END
    FROM free JOIN endpoints ON endpoints.id = free.endpoint_id
    WHERE requests.id = free.id
    RETURNING requests.id
    """
)


@dataclass(frozen=True)
class Assignment:
    """A request that waits in this attempt is given to the endpoint."""

    request_id: str
    attempt: int
    endpoint_id: str
    cold_start_id: str | None  # of the endpoint


@dataclass(frozen=True)
class Request:
    id: str
    tenant: str
    model_id: str
    gateway_id: str
    attempt: int
    state: RequestState
    endpoint_id: str | None
    outcome: RequestOutcome | None
    error: str | None


async def find_locked(session: AsyncSession, request_id: str) -> Request | None:
    row = (await session.execute(_FIND_LOCKED, {"request_id": request_id})).one_or_none()
    return None if row is None else _request(row._mapping)


async def find_all_locked(
    session: AsyncSession, request_ids: Collection[str]
) -> dict[str, Request]:
    """By id, of those that there are. Locked in the order of their ids."""
    rows = await session.execute(_FIND_ALL_LOCKED, {"request_ids": list(request_ids)})
    return {row.id: _request(row._mapping) for row in rows}


async def queue_again(session: AsyncSession, request_id: str, attempt: int) -> None:
    """It keeps its place by arrival, its deadline, and when it was assigned first."""
    await session.execute(
        update(RequestRow)
        .where(RequestRow.id == request_id)
        .values(state=RequestState.QUEUED.value, attempt=attempt, endpoint_id=None)
    )


async def end(
    session: AsyncSession, request_ids: Collection[str], outcome: RequestOutcome, error: str | None
) -> frozenset[str]:
    """Those of them that were open until now."""
    if not request_ids:
        return frozenset()
    free = select(RequestRow.id).where(is_one_of(RequestRow.id, request_ids), IS_OPEN)
    ended = await session.scalars(
        update(RequestRow)
        .where(RequestRow.id.in_(free.with_for_update(skip_locked=True)))
        .values(
            state=RequestState.ENDED.value,
            outcome=outcome.value,
            error=storable(error),
            ended_at=func.now(),
        )
        .returning(RequestRow.id)
        .execution_options(synchronize_session=False)
    )
    return frozenset(ended)


async def assign(session: AsyncSession, given: Sequence[Assignment]) -> frozenset[str]:
    """Of these requests, those that still wait in that attempt; they are given to their endpoints.
    A request that arrived before its endpoint was ready waited for its cold start."""
    values = {
        "ids": [item.request_id for item in given],
        "attempts": [item.attempt for item in given],
        "endpoint_ids": [item.endpoint_id for item in given],
        "cold_start_ids": [item.cold_start_id for item in given],
    }
    return frozenset(await session.scalars(_ASSIGN, values))


async def load_open(
    session: AsyncSession,
    now_s: float,
    *,
    model_ids: Collection[str] | None = None,
    request_ids: Collection[str] = (),
) -> dict[str, OpenRequest]:
    """Of these models and with these ids; of all models if none is named. Oldest first."""
    if model_ids is None:
        losses = await request_losses.load(session, now_s, _LOSSES)
        rows = await session.execute(_OPEN_IN_ORDER)
    else:
        named = {"model_ids": list(model_ids), "request_ids": list(request_ids)}
        losses = await request_losses.load(session, now_s, _LOSSES_NAMED, named)
        rows = await session.execute(_OPEN_NAMED, named)
    return {
        row.id: OpenRequest(
            row.id,
            row.model_id,
            row.gateway_id,
            row.attempt,
            row.num_engine_crashes,
            row.num_node_losses,
            row.endpoint_id if row.state == RequestState.ASSIGNED.value else None,
            now_s - row.waited_s,
            now_s + row.remaining_s,
            tuple(losses.get(row.id, ())),
            row.num_prompt_tokens,
        )
        for row in rows
    }


async def load_versions(session: AsyncSession) -> dict[str, str]:
    """Of every open request the transaction that wrote its row last, and nothing for one with
    losses, which are other rows. One array: it costs a hundredth of the rows."""
    texts = await session.scalar(_VERSIONS) or ()
    return dict(text.rsplit(" ", 1) for text in texts)


async def load_model_ids(session: AsyncSession, request_ids: Collection[str]) -> frozenset[str]:
    return frozenset(await session.scalars(_MODEL_IDS, {"request_ids": list(request_ids)}))


def _request(row: RowMapping) -> Request:
    outcome = RequestOutcome(row["outcome"]) if row["outcome"] else None
    return Request(**{**row, "state": RequestState(row["state"]), "outcome": outcome})
