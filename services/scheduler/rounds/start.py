"""Turns a plan into rows: endpoint, workers, reservations, cold start and its first steps."""

import logging
from dataclasses import dataclass
from datetime import datetime

from libs.common.bus.messages import Step, WorkerSpec
from libs.common.ids import new_id
from libs.common.observability import telemetry
from libs.common.startmode import StartMode
from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.planning import memory
from services.scheduler.policy.planning.plans import Plan, StagePlan
from services.scheduler.rounds.round import Round
from services.scheduler.store import coldstarts
from services.scheduler.store.coldstarts import (
    SCHEDULER_ACTOR,
    ActorStep,
    ColdStart,
    PlannedWorker,
)

logger = logging.getLogger(__name__)

# A start may take as long as it moves: the leader ends one that stands still. What a worker is told
# is for the case that no leader is left to do so, and must bear a network shared with many others.
START_SLACK = 10.0
FETCH_SLACK = 30.0  # a fetch may take so many times its prediction
FIRST_EPOCH = 1  # of an endpoint; grows when its shape changes


@dataclass(frozen=True)
class Occasion:
    """Whose wait made the start necessary."""

    request_id: str | None = None
    arrived_at: datetime | None = None
    traceparent: str | None = None


async def begin_start(
    round_: Round, deployable: Deployable, plan: Plan, occasion: Occasion, mode: StartMode
) -> None:
    endpoint_id, cold_start_id = new_id("endpoint"), new_id("start")
    traceparent = telemetry.promised_traceparent(occasion.traceparent, cold_start_id)
    workers = tuple(
        PlannedWorker(
            stage.node_id,
            _spec(round_, deployable, plan, index, endpoint_id, traceparent),
            mode.is_launched_at_once,
        )
        for index, stage in enumerate(plan.stages)
    )
    start = ColdStart(
        id=cold_start_id,
        endpoint_id=endpoint_id,
        endpoint_epoch=FIRST_EPOCH,
        model=deployable.model,
        request_id=occasion.request_id,
        traceparent=occasion.traceparent,
        weight_bytes=plan.weight_bytes,
        workers=workers,
    )
    await coldstarts.begin(round_.session, start)
    steps = _first_steps(round_, start, occasion)
    await coldstarts.record_steps(round_.session, steps)
    round_.after_commit.append(lambda: _trace(steps, traceparent))
    round_.changed_nodes.update(worker.node_id for worker in workers)
    nodes = ", ".join(
        f"{stage.node_id} (standby)" if stage.has_standby else stage.node_id
        for stage in plan.stages
    )
    logger.info(
        "endpoint %s of model %s starts on %s, expected to take %.1f s",
        *(endpoint_id, start.model.id, nodes, plan.start_s),
    )


def _spec(
    round_: Round,
    deployable: Deployable,
    plan: Plan,
    stage_index: int,
    endpoint_id: str,
    traceparent: str | None,
) -> WorkerSpec:
    model, stage = deployable.model, plan.stages[stage_index]
    return WorkerSpec(
        worker_id=new_id("worker"),
        endpoint_id=endpoint_id,
        endpoint_epoch=FIRST_EPOCH,
        model_id=model.id,
        manifest_digest=deployable.manifest_digest,
        stage_index=stage_index,
        num_stages=len(plan.stages),
        engine=model.engine,
        layers=stage.layers,
        unit_digests=stage.unit_digests,
        device_index=stage.device_index,
        device_bytes=stage.device_bytes,
        worker_bytes=stage.worker_bytes,
        kv_bytes=stage.kv_bytes,
        kv_tokens=memory.kv_tokens(model, deployable.summary),
        max_slots=model.max_slots,
        max_context_tokens=memory.context_tokens(model, deployable.summary),
        cores=stage.cores,
        start_timeout_ms=int(1000 * _backstop_s(round_, stage)),
        traceparent=traceparent,
    )


def _backstop_s(round_: Round, stage: StagePlan) -> float:
    return START_SLACK * round_.timing.start_timeout_s + FETCH_SLACK * stage.fetch_s


def _first_steps(round_: Round, start: ColdStart, occasion: Occasion) -> list[ActorStep]:
    placed = ", ".join(f"{w.node_id}/{w.spec.device_index}" for w in start.workers)
    plan_step = Step(name="plan", started_at=round_.now, ended_at=round_.now, detail=placed[:200])
    steps = [plan_step]
    if occasion.arrived_at is not None:
        started_at = min(occasion.arrived_at, round_.now)
        steps.insert(0, Step(name="queue", started_at=started_at, ended_at=round_.now))
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
