"""Turns decisions to start endpoints into rows: endpoints, members, workers, reservations, cold
starts and their first steps."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import Step, WorkerSpec
from libs.common.observability import telemetry
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import FIRST_EPOCH, Deployable
from services.scheduler.policy.planning import memory
from services.scheduler.policy.planning.plans import StagePlan
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.started_endpoint import (
    FIRST_GENERATION,
    members_of,
)
from services.scheduler.store.starts import coldstarts
from services.scheduler.store.starts.coldstarts import (
    ColdStart,
    PlannedWorker,
)
from services.scheduler.store.starts.steps import SCHEDULER_ACTOR, ActorStep, record_steps

logger = logging.getLogger(__name__)

# A start may take as long as it moves: the leader ends one that stands still. What a worker is told
# is for the case that no leader is left to do so, and must bear a network shared with many others.
START_SLACK = 10.0
FETCH_SLACK = 30.0  # a fetch may take so many times its prediction


@dataclass(frozen=True)
class StartTrigger:
    """Whose wait made the start necessary."""

    request_id: str | None = None
    arrived_at: datetime | None = None
    traceparent: str | None = None


async def begin_starts(
    session: AsyncSession,
    snapshot: Snapshot,
    now: datetime,
    decisions: Sequence[tuple[d.StartEndpoint, StartTrigger]],
) -> list[Callable[[], None]]:
    """Write them all; what is returned traces the first steps once that has committed."""
    if not decisions:
        return []
    starts = [_cold_start(snapshot, decision, trigger) for decision, trigger in decisions]
    await coldstarts.begin(session, starts)
    traces: list[Callable[[], None]] = []
    steps: list[ActorStep] = []
    for start, (decision, trigger) in zip(starts, decisions, strict=True):
        own = _first_steps(now, start, trigger)
        steps += own
        promised = telemetry.promised_traceparent(trigger.traceparent, start.id)
        traces.append(partial(_trace, own, promised))
        _log(start, decision)
    await record_steps(session, steps)
    return traces


def _cold_start(snapshot: Snapshot, decision: d.StartEndpoint, trigger: StartTrigger) -> ColdStart:
    deployable = snapshot.deployable(snapshot.models[decision.model_id])
    assert deployable is not None, "only a READY model is planned for"
    traceparent = telemetry.promised_traceparent(trigger.traceparent, decision.cold_start_id)
    return ColdStart(
        id=decision.cold_start_id,
        endpoint_id=decision.endpoint_id,
        endpoint_epoch=FIRST_EPOCH,
        model=deployable.model,
        request_id=trigger.request_id,
        traceparent=trigger.traceparent,
        weight_bytes=decision.plan.weight_bytes,
        workers=tuple(
            PlannedWorker(
                stage.node_id,
                decision.workers[index].fetch_id,
                _spec(snapshot, deployable, decision, index, traceparent),
                snapshot.mode.is_launched_at_once(is_cached=stage.is_cached),
            )
            for index, stage in enumerate(decision.plan.stages)
        ),
        members=members_of(decision),
        generation=FIRST_GENERATION,
        prediction=decision.prediction,
        considered=decision.considered,
        purpose=decision.purpose,
    )


def _log(start: ColdStart, decision: d.StartEndpoint) -> None:
    nodes = ", ".join(
        f"{stage.node_id} (standby)" if stage.has_standby else stage.node_id
        for stage in decision.plan.stages
    )
    logger.info(
        "endpoint %s of model %s starts on %s, expected to take %.1f s",
        *(start.endpoint_id, start.model.id, nodes, decision.plan.start_s),
    )


def _spec(
    snapshot: Snapshot,
    deployable: Deployable,
    decision: d.StartEndpoint,
    stage_index: int,
    traceparent: str | None,
) -> WorkerSpec:
    model, plan = deployable.model, decision.plan
    stage = plan.stages[stage_index]
    return WorkerSpec(
        worker_id=decision.workers[stage_index].worker_id,
        endpoint_id=decision.endpoint_id,
        endpoint_epoch=FIRST_EPOCH,
        model_id=model.id,
        manifest_digest=deployable.manifest_digest,
        generation=FIRST_GENERATION,
        role=members_of(decision)[stage_index].role,
        stage_index=stage_index,
        num_stages=len(plan.stages),
        engine=model.engine,
        layers=stage.layers,
        unit_digests=stage.unit_digests,
        device_index=stage.device_index,
        device_bytes=stage.device_bytes,
        worker_bytes=stage.worker_bytes,
        spare_bytes=stage.spare_bytes,
        kv_bytes=stage.kv_bytes,
        kv_tokens=memory.kv_tokens(model, deployable.summary),
        max_slots=model.max_slots,
        max_context_tokens=memory.context_tokens(model, deployable.summary),
        cores=stage.cores,
        start_timeout_ms=int(1000 * _backstop_s(snapshot, stage)),
        traceparent=traceparent,
    )


def _backstop_s(snapshot: Snapshot, stage: StagePlan) -> float:
    return START_SLACK * snapshot.limits.start_timeout_s + FETCH_SLACK * stage.fetch_s


def _first_steps(now: datetime, start: ColdStart, occasion: StartTrigger) -> list[ActorStep]:
    placed = ", ".join(f"{w.node_id}/{w.spec.device_index}" for w in start.workers)
    plan_step = Step(name="plan", started_at=now, ended_at=now, detail=placed[:200])
    steps = [plan_step]
    if occasion.arrived_at is not None:
        started_at = min(occasion.arrived_at, now)
        steps.insert(0, Step(name="queue", started_at=started_at, ended_at=now))
    return [ActorStep(start.id, SCHEDULER_ACTOR, None, None, step) for step in steps]


def _trace(steps: list[ActorStep], traceparent: str | None) -> None:
    for item in steps:
        step = item.step
        assert step.ended_at is not None
        telemetry.record_span(
            f"{SCHEDULER_ACTOR}.{step.name}",
            traceparent,
            step.started_at,
            step.ended_at,
            {"detail": step.detail},
        )
