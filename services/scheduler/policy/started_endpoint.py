"""An endpoint as it begins to start: its workers and its first generation. Pure."""

from libs.common.states import EndpointState, MemberRole, WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import FIRST_EPOCH, Endpoint, Member, Worker
from services.scheduler.policy.planning.memory import context_tokens, kv_tokens
from services.scheduler.policy.planning.plans import StagePlan
from services.scheduler.policy.snapshot import Snapshot

FIRST_GENERATION = 1


def started(snapshot: Snapshot, decision: d.StartEndpoint) -> Endpoint:
    """The endpoint as its rows will say."""
    model = snapshot.models[decision.model_id]
    summary = snapshot.summary(model)
    assert summary is not None, "only a READY model is planned for"
    context = context_tokens(model, summary)
    stages, planned = decision.plan.stages, decision.workers
    members = members_of(decision)
    workers = tuple(
        Worker(
            id=ids.worker_id,
            endpoint_id=decision.endpoint_id,
            node_id=stage.node_id,
            device_index=stage.device_index,
            device_bytes=stage.device_bytes,
            stage_index=index,
            state=WorkerState.PLANNED,
            is_desired=True,
            public_key=None,
            is_launch_due=snapshot.mode.is_launched_at_once(is_cached=stage.is_cached),
            context_tokens=context,
            fetch_id=ids.fetch_id,
            manifest_digest=model.manifest_digest or "",
            unit_digests=stage.unit_digests,
            worker_bytes=stage.worker_bytes,
            kv_tokens=kv_tokens(model, summary),
        )
        for index, (stage, ids) in enumerate(zip(stages, planned, strict=True))
    )
    return Endpoint(
        id=decision.endpoint_id,
        tenant=model.tenant,
        model_id=model.id,
        epoch=FIRST_EPOCH,
        state=EndpointState.STARTING,
        max_slots=model.max_slots,
        cold_start_id=decision.cold_start_id,
        has_been_ready=False,
        idle_since_s=None,
        generation=FIRST_GENERATION,
        members=members,
        workers=workers,
        purpose=decision.purpose,
    )


def members_of(decision: d.StartEndpoint) -> tuple[Member, ...]:
    """The first generation: stage 0 is the entry."""
    stages = decision.plan.stages
    return tuple(
        _member(index, stage, ids.worker_id)
        for index, (stage, ids) in enumerate(zip(stages, decision.workers, strict=True))
    )


def _member(index: int, stage: StagePlan, worker_id: str) -> Member:
    return Member(
        worker_id=worker_id,
        role=MemberRole.ENTRY if index == 0 else MemberRole.FOLLOWER,
        stage_index=index,
        first_layer=stage.layers.first_layer,
        last_layer=stage.layers.last_layer,
        memory=stage.memory,
    )
