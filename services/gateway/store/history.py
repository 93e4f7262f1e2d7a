"""What happened and what runs, read-only, always of one tenant."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import defer

from libs.common.records.database import Database
from libs.common.records.memory_pieces import memory_pieces
from libs.common.records.tables import (
    ColdStartRow,
    ColdStartStepRow,
    EndpointRow,
    ModelRow,
    PrefetchRow,
    RequestRow,
    WorkerRow,
)
from libs.common.states import EndpointState
from services.gateway.store.asked_requests import AskedRequests
from services.gateway.store.slo_times import SloTime, slo_time
from services.gateway.store.usage_views import MemoryTime, memory_time
from services.gateway.store.views import (
    ColdStartDetail,
    ColdStartView,
    EndpointView,
    PlanView,
    PrefetchView,
    RequestSummary,
    RequestView,
    StepView,
    WorkerView,
    view_of,
)
from services.gateway.store.wait_times import RequestMoments, wait_times

_FINISHED = tuple(state.value for state in EndpointState if state.is_finished)
_MAX_ENDPOINTS = 200
_MAX_PREFETCHES = 10
_THEIRS = """(
    SELECT reservations.* FROM reservations JOIN workers ON workers.id = reservations.worker_id
    WHERE workers.endpoint_id = ANY(CAST(:ids AS text[])))"""
_HELD = text(
    f"""
    SELECT endpoint_id, sum(starting_byte_s) AS starting, sum(busy_byte_s) AS busy,
        sum(idle_byte_s) AS idle
    FROM ({memory_pieces(_THEIRS)}) AS held GROUP BY endpoint_id
    """
)


@dataclass(frozen=True)
class ViewStore:
    """Every method raises DatabaseUnavailable; None means that this tenant has no such thing."""

    database: Database

    async def cold_starts(
        self, tenant: str, model: str | None, limit: int
    ) -> tuple[ColdStartView, ...]:
        """The newest first."""
        newest = ColdStartRow.started_at.desc()
        query = _cold_starts(tenant).order_by(newest).limit(limit)
        query = query.options(defer(ColdStartRow.plans, raiseload=True))  # long, and shown of one
        if model is not None:
            its = select(ModelRow.id).where(ModelRow.tenant == tenant, ModelRow.name == model)
            query = query.where(ColdStartRow.model_id.in_(its))
        async with self.database.transaction() as session:
            rows = (await session.execute(query)).all()
        return tuple(view_of(ColdStartView, row, **more) for row, more in map(_parts, rows))

    async def cold_start(self, tenant: str, cold_start_id: str) -> ColdStartDetail | None:
        """With its steps in the order in which they began."""
        query = _cold_starts(tenant).where(ColdStartRow.id == cold_start_id)
        steps = (
            select(ColdStartStepRow)
            .where(ColdStartStepRow.cold_start_id == cold_start_id)
            .order_by(ColdStartStepRow.started_at, ColdStartStepRow.name)
        )
        async with self.database.transaction() as session:
            found = (await session.execute(query)).one_or_none()
            if found is None:
                return None
            views = tuple(view_of(StepView, row) for row in await session.scalars(steps))
        row, more = _parts(found)
        plans = tuple(_plan_view(plan) for plan in row.plans or ())
        return view_of(ColdStartDetail, row, steps=views, plans=plans, **more)

    async def endpoints(self, tenant: str, *, has_ended: bool) -> tuple[EndpointView, ...]:
        """Living ones, or with `has_ended` those that ended; the newest first, at most 200."""
        state = EndpointRow.state
        query = (
            select(EndpointRow, ModelRow.name)
            .join(ModelRow, ModelRow.id == EndpointRow.model_id)
            .where(EndpointRow.tenant == tenant)
            .where(state.in_(_FINISHED) if has_ended else state.not_in(_FINISHED))
            .order_by(EndpointRow.created_at.desc())
            .limit(_MAX_ENDPOINTS)
        )
        async with self.database.transaction() as session:
            rows = (await session.execute(query)).all()
            ids = [row.id for row, _ in rows]
            found = select(WorkerRow).where(WorkerRow.endpoint_id.in_(ids))
            workers = (await session.scalars(found.order_by(WorkerRow.stage_index))).all()
            held = {row.endpoint_id: row for row in await session.execute(_HELD, {"ids": ids})}
        return tuple(
            view_of(
                EndpointView,
                row,
                model=name,
                memory=_memory_time(row, held.get(row.id)),
                workers=tuple(view_of(WorkerView, w) for w in workers if w.endpoint_id == row.id),
            )
            for row, name in rows
        )

    async def prefetches(self, tenant: str, model_id: str) -> tuple[PrefetchView, ...]:
        """The newest first."""
        query = (
            select(PrefetchRow)
            .where(PrefetchRow.tenant == tenant, PrefetchRow.model_id == model_id)
            .order_by(PrefetchRow.started_at.desc())
            .limit(_MAX_PREFETCHES)
        )
        async with self.database.transaction() as session:
            return tuple(view_of(PrefetchView, row) for row in await session.scalars(query))

    async def request(self, tenant: str, request_id: str) -> RequestView | None:
        """With what it waited for."""
        query = (
            select(RequestRow, ColdStartRow.ready_at)
            .outerjoin(ColdStartRow, ColdStartRow.id == RequestRow.cold_start_id)
            .where(RequestRow.id == request_id, RequestRow.tenant == tenant)
        )
        async with self.database.transaction() as session:
            found = (await session.execute(query)).one_or_none()
        return None if found is None else _request_view(*found)

    async def requests(self, tenant: str, asked: AskedRequests) -> tuple[RequestSummary, ...]:
        """The newest first."""
        async with self.database.transaction() as session:
            rows = (await session.execute(asked.query(tenant))).all()
        return tuple(
            view_of(RequestSummary, row, model=model, **_slo_times(row)) for row, model in rows
        )


def _memory_time(row: EndpointRow, held: Any) -> MemoryTime:
    """What is counted, and what its living workers have held since they were counted last."""
    live = (0, 0, 0) if held is None else (held.starting, held.busy, held.idle)
    counted = (row.starting_byte_s, row.busy_byte_s, row.idle_byte_s)
    return memory_time(*(float(a + b) for a, b in zip(counted, live, strict=True)))


def _slo_times(row: RequestRow) -> dict[str, SloTime]:
    return {
        "ttft": slo_time(row.ttft_ms, row.slo_ttft_ms),
        "tpot": slo_time(row.tpot_ms, row.slo_tpot_ms),
    }


def _plan_view(document: dict[str, Any]) -> PlanView:
    """Without what only another version of this software wrote."""
    known = {field.name for field in fields(PlanView)}
    return PlanView(**{key: value for key, value in document.items() if key in known})


def _request_view(row: RequestRow, ready_at: datetime | None) -> RequestView:
    has_cold_start = row.cold_start_id is not None
    moments = view_of(RequestMoments, row, has_cold_start=has_cold_start, ready_at=ready_at)
    return view_of(RequestView, row, waited=wait_times(moments), **_slo_times(row))


def _cold_starts(tenant: str) -> Any:
    return (
        select(ColdStartRow, ModelRow.name, EndpointRow.guilty_worker_id)
        .join(ModelRow, ModelRow.id == ColdStartRow.model_id)
        .outerjoin(EndpointRow, EndpointRow.id == ColdStartRow.endpoint_id)
        .where(ColdStartRow.tenant == tenant)
    )


def _parts(found: Any) -> tuple[ColdStartRow, dict[str, str | None]]:
    """The row, and what its view has from other tables."""
    row, model, guilty_worker_id = found
    return row, {"model": model, "guilty_worker_id": guilty_worker_id}
