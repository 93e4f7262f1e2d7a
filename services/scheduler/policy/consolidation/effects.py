"""What decisions about consolidations change of an endpoint. Pure."""

from dataclasses import replace
from typing import Any

from libs.common.states import (
    ConsolidationState,
    EndpointState,
    MemberMemory,
    MemberRole,
)
from services.scheduler.policy.cluster import FIRST_EPOCH, Endpoint, Member, Worker
from services.scheduler.policy.consolidation.consolidation import Consolidation
from services.scheduler.policy.consolidation.decisions import (
    AbandonConsolidation,
    BeginConsolidation,
    CompleteConsolidation,
    ConsolidationDecision,
    RecordConsolidation,
    SeparateWorker,
)


def moved(endpoint: Endpoint, decision: ConsolidationDecision, now_s: float) -> Endpoint:
    """The endpoint as its rows will say."""
    match decision:
        case BeginConsolidation():
            return _begun(endpoint, decision, now_s)
        case RecordConsolidation():
            open_ = endpoint.consolidation
            copying = open_ and replace(open_, state=ConsolidationState.COPYING)
            return _with_entry(endpoint, consolidation=copying)
        case AbandonConsolidation():
            return _abandoned(endpoint, decision, now_s)
        case CompleteConsolidation():
            return _completed(endpoint, decision)
        case SeparateWorker(worker_id=worker_id):
            staying = tuple(worker for worker in endpoint.workers if worker.id != worker_id)
            return replace(endpoint, workers=staying)
    raise AssertionError(f"no effect is known of {decision}")


def _begun(endpoint: Endpoint, decision: BeginConsolidation, now_s: float) -> Endpoint:
    begun = Consolidation(
        decision.consolidation_id,
        decision.generation,
        decision.fetch_id,
        decision.unit_digests,
        ConsolidationState.LOADING,
        now_s,
        decision.timeout_s,
    )
    changed = _with_worker(endpoint, decision.worker_id, consolidation=begun)
    if decision.is_scale_up:
        return changed
    return replace(
        changed, state=_state(endpoint, EndpointState.PIPELINED, EndpointState.CONSOLIDATING)
    )


def _abandoned(endpoint: Endpoint, decision: AbandonConsolidation, now_s: float) -> Endpoint:
    tries, open_ = endpoint.consolidation_tries, endpoint.consolidation
    if decision.counts:
        endpoint = replace(endpoint, consolidation_tries=tries.one_more(now_s))
    if open_ is not None and open_.id == decision.consolidation_id:
        state = _state(endpoint, EndpointState.CONSOLIDATING, EndpointState.PIPELINED)
        return replace(_with_entry(endpoint, consolidation=None), state=state)
    members = {member.worker_id for member in endpoint.members}
    workers = tuple(
        replace(worker, consolidation=None, is_desired=worker.is_desired and worker.id in members)
        if worker.consolidation is not None and worker.consolidation.id == decision.consolidation_id
        else worker
        for worker in endpoint.workers
    )
    return replace(endpoint, workers=workers)


def _completed(endpoint: Endpoint, decision: CompleteConsolidation) -> Endpoint:
    """A generation of its entry alone. The other workers are to end, but for those that are to be
    endpoints of their own; their memory is reserved until they are gone."""
    staying = {decision.worker_id, *(worker.id for worker in endpoint.growing_workers)}
    alone = sole_member(decision.worker_id, decision.num_layers)
    changed = _with_entry(
        endpoint,
        consolidation=None,
        unit_digests=decision.unit_digests,
        stage_index=0,
        is_connected=False,
    )
    workers = tuple(
        worker if worker.id in staying else replace(worker, is_desired=False)
        for worker in changed.workers
    )
    state = EndpointState.STANDALONE if endpoint.state.is_serving else endpoint.state
    return replace(
        endpoint,
        state=state,
        generation=decision.generation,
        members=(alone,),
        workers=workers,
    )


def sole_member(worker_id: str, num_layers: int) -> Member:
    """The entry, once it is the whole endpoint."""
    return Member(worker_id, MemberRole.ENTRY, 0, 0, num_layers, MemberMemory.FULL)


def separated(endpoint: Endpoint, worker: Worker, decision: SeparateWorker) -> Endpoint:
    """The endpoint that one of its workers has become, before anybody knows that it serves."""
    own = replace(
        worker,
        endpoint_id=decision.child_id,
        stage_index=0,
        unit_digests=decision.unit_digests,
        consolidation=None,
        is_connected=False,
    )
    return Endpoint(
        id=decision.child_id,
        tenant=endpoint.tenant,
        model_id=endpoint.model_id,
        epoch=FIRST_EPOCH,
        state=EndpointState.STARTING,
        max_slots=endpoint.max_slots,
        cold_start_id=None,
        has_been_ready=False,
        idle_since_s=None,
        generation=decision.generation,
        members=(sole_member(worker.id, decision.num_layers),),
        workers=(own,),
    )


def _with_entry(endpoint: Endpoint, **changes: Any) -> Endpoint:
    return (
        endpoint if endpoint.entry is None else _with_worker(endpoint, endpoint.entry.id, **changes)
    )


def _with_worker(endpoint: Endpoint, worker_id: str, **changes: Any) -> Endpoint:
    workers = tuple(
        replace(worker, **changes) if worker.id == worker_id else worker
        for worker in endpoint.workers
    )
    return replace(endpoint, workers=workers)


def _state(endpoint: Endpoint, before: EndpointState, then: EndpointState) -> EndpointState:
    return then if endpoint.state is before else endpoint.state
