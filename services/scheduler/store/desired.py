"""What a node shall run and hold, computed from the rows of its workers."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.messages import FetchSpec, NodeDesired, WorkerSpec
from libs.common.states import EndpointState, FetchClass
from libs.common.tables import EndpointRow, NodeRow, WorkerRow


async def load(session: AsyncSession, node_id: str, leader_epoch: int) -> NodeDesired:
    """The whole desired state of a node that has a row, under its version."""
    found = await session.scalars(select(NodeRow.desired_version).where(NodeRow.id == node_id))
    version = found.one()
    query = (
        select(WorkerRow.spec, WorkerRow.fetch_class, WorkerRow.is_launch_due, EndpointRow.state)
        .join(EndpointRow, EndpointRow.id == WorkerRow.endpoint_id)
        .where(WorkerRow.node_id == node_id, WorkerRow.is_desired)
        .order_by(WorkerRow.created_at, WorkerRow.id)
    )
    rows = (await session.execute(query)).all()
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
