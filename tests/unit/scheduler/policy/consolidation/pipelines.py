"""A pipeline of three stages on three nodes, that can become one worker.

Units: embedding 100 bytes, three layers of 300, a norm of 10. The entry has the ends and the first
layer, and memory for all: 50 for its process, 1,010 of weights, 40 of KV cache, for 40 tokens. Each
other stage has a layer. Every NIC carries 1,000 bytes a second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from libs.common.bus.messages import ConsolidationObserved, FetchObserved, WorkerObserved
from libs.common.states import (
    ConsolidationPhase,
    ConsolidationState,
    EndpointState,
    FetchState,
    MemberMemory,
    MemberRole,
    WorkerState,
)
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, Member, Worker
from services.scheduler.policy.consolidation.consolidation import Consolidation
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.rules.consolidations import begin_consolidations
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import (
    DIGEST,
    NOW_S,
    device,
    endpoint,
    model,
    observed,
    snapshot,
    summary,
    unit_digest,
    worker,
)

NUM_STAGES = 3
SUMMARY = summary(unit_sizes=(100, 300, 300, 300, 10))
UNITS = tuple(unit_digest(index) for index in range(5))  # in the order in which a worker reads
HELD = ((UNITS[0], UNITS[1], UNITS[4]), (UNITS[2],), (UNITS[3],))  # by stage
FULL_BYTES, LOW_BYTES = 1_100, 400
FILES_BYTES = 1_010 + 5 * 4_096  # of all units in a host cache, each with a header page
FETCH_ID = "rest-0"


def stage(index: int, *, is_full: bool, **changes: Any) -> Worker:
    values: dict[str, Any] = {
        "id": f"worker-{index}",
        "node_id": f"node-{index}",
        "stage_index": index,
        "device_bytes": FULL_BYTES if is_full else LOW_BYTES,
        "worker_bytes": 50,
        "kv_tokens": 40,
        "fetch_id": f"start-{index}",
        "is_connected": True,
        "manifest_digest": DIGEST,
        "unit_digests": HELD[index],
    }
    return worker(**{**values, **changes})


def pipeline(num_full: int = 1, **changes: Any) -> Endpoint:
    """It serves."""
    workers = tuple(stage(index, is_full=index < num_full) for index in range(NUM_STAGES))
    members = tuple(
        Member(
            own.id,
            MemberRole.ENTRY if own.stage_index == 0 else MemberRole.FOLLOWER,
            own.stage_index,
            own.stage_index,
            own.stage_index + 1,
            MemberMemory.FULL if own.stage_index < num_full else MemberMemory.LOW,
        )
        for own in workers
    )
    values = {"state": EndpointState.PIPELINED, "workers": workers, "members": members}
    return endpoint(**{**values, **changes})


def with_open(
    before: Endpoint, index: int = 0, state: ConsolidationState = ConsolidationState.LOADING
) -> Endpoint:
    """Its worker of that stage has a target since ten seconds."""
    lacking = tuple(unit for unit in UNITS if unit not in HELD[index])
    target = Consolidation(
        f"consolidation-{index}",
        2,
        f"rest-{index}",
        *(lacking, state, NOW_S - 10.0, 60.0),
    )
    workers = tuple(
        replace(own, consolidation=target) if own.stage_index == index else own
        for own in before.workers
    )
    is_entry = index == 0
    endpoint_state = EndpointState.CONSOLIDATING if is_entry else before.state
    return replace(before, workers=workers, state=endpoint_state)


def seen(own: Worker, state: WorkerState = WorkerState.READY, **changes: Any) -> WorkerObserved:
    told = {"worker_id": own.id, "endpoint_id": own.endpoint_id}
    return observed(state, **{**told, **changes})


def says(phase: ConsolidationPhase, why: str = "", generation: int = 2) -> ConsolidationObserved:
    return ConsolidationObserved(generation=generation, phase=phase, why=why)


def rest(state: FetchState, **changes: Any) -> FetchObserved:
    return FetchObserved(fetch_id=FETCH_ID, state=state, **changes)


def snapshot_of(
    there: Endpoint,
    heard: Iterable[WorkerObserved] = (),
    fetches: Mapping[str, tuple[FetchObserved, ...]] | None = None,
    **changes: Any,
) -> Snapshot:
    """All its workers are ready, but for what `heard` says of some."""
    said = {one.worker_id: one for one in heard}
    values: dict[str, Any] = {
        "limits": Limits(can_consolidate=True),
        "summaries": {DIGEST: SUMMARY},
        "models": (model(max_pipeline_size=NUM_STAGES),),
        "endpoints": (there,),
        "devices": [device(f"node-{i}", memory=2_000) for i in range(NUM_STAGES)],
        "workers": {w.node_id: (said.get(w.id, seen(w)),) for w in there.workers},
        "fetches": fetches or {},
    }
    return snapshot(**{**values, **changes})


def with_caches(there: Snapshot, capacity_bytes: int) -> Snapshot:
    """Of so many bytes each, and empty."""
    size = {"cache_capacity_bytes": capacity_bytes}
    fetchers = {
        id_: replace(heard, heartbeat=heard.heartbeat.model_copy(update=size))
        for id_, heard in there.observed.fetchers.items()
    }
    return replace(there, observed=replace(there.observed, fetchers=fetchers))


def begun(before: Snapshot) -> list[d.Decision]:
    """What a sweep begins, once all else is decided."""
    builder = DecisionBuilder(before)
    begin_consolidations(builder, NodeMemo())
    assert not [x for x in builder.decisions if isinstance(x, d.SkipModel)]
    return builder.decisions
