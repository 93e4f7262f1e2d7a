"""What a node shall run and hold, computed from the rows of its workers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import FetchSpec, NodeDesired, WorkerSpec
from libs.common.records.tables import EndpointRow, WorkerRow
from libs.common.states import EndpointState, FetchClass
from services.scheduler.store.arrays import is_one_of

_WORKERS = (
    select(
        WorkerRow.node_id,
        WorkerRow.spec,
        WorkerRow.fetch_class,
        WorkerRow.is_launch_due,
        EndpointRow.state,
    )
    .join(EndpointRow, EndpointRow.id == WorkerRow.endpoint_id)
    .where(WorkerRow.is_desired)
    .order_by(WorkerRow.created_at, WorkerRow.id)
)


async def load(
    session: AsyncSession, versions: Mapping[str, int], leader_epoch: int
) -> list[NodeDesired]:
    """The whole desired state of each of these nodes, under its version."""
    if not versions:
        return []
    rows = defaultdict(list)
    for row in await session.execute(_WORKERS.where(is_one_of(WorkerRow.node_id, versions))):
        rows[row.node_id].append(row)
    return [
        _desired(node_id, version, leader_epoch, rows[node_id])
        for node_id, version in versions.items()
    ]


def _desired(
    node_id: str, version: int, leader_epoch: int, rows: Sequence[Row[Any]]
) -> NodeDesired:
    workers = [_worker(row.spec, EndpointState(row.state)) for row in rows]
    classes = [FetchClass(row.fetch_class) for row in rows]
    return NodeDesired(
        node_id=node_id,
        leader_epoch=leader_epoch,
        version=version,
        workers=tuple(w for w, row in zip(workers, rows, strict=True) if row.is_launch_due),
        fetches=tuple(map(_fetch, workers, classes)),
    )


def _worker(spec: dict[str, object], state: EndpointState) -> WorkerSpec:
    is_draining = state is EndpointState.DRAINING
    return WorkerSpec.model_validate({**spec, "is_draining": is_draining})


def _fetch(worker: WorkerSpec, fetch_class: FetchClass) -> FetchSpec:
    return FetchSpec(
        fetch_id=worker.worker_id,
        worker_id=worker.worker_id,
        manifest_digest=worker.manifest_digest,
        unit_digests=worker.unit_digests,
        fetch_class=fetch_class,
        traceparent=worker.traceparent,
    )
