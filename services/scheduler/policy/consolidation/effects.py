"""What decisions about consolidations change of an endpoint. Pure."""

from dataclasses import replace
from typing import Any

from libs.common.states import (
    ConsolidationState,
    EndpointState,
    MemberMemory,
    MemberRole,
)
from services.scheduler.policy.cluster import Endpoint, Member
from services.scheduler.policy.consolidation.consolidation import Consolidation
from services.scheduler.policy.consolidation.decisions import (
    AbandonConsolidation,
    BeginConsolidation,
    CompleteConsolidation,
    ConsolidationDecision,
    RecordConsolidation,
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
        case AbandonConsolidation(counts=counts):
            tries = endpoint.consolidation_tries
            left = _with_entry(endpoint, consolidation=None)
            return replace(
                left,
                state=_state(endpoint, EndpointState.CONSOLIDATING, EndpointState.PIPELINED),
                consolidation_tries=tries.one_more(now_s) if counts else tries,
            )
        case CompleteConsolidation():
            return _completed(endpoint, decision)
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
    state = _state(endpoint, EndpointState.PIPELINED, EndpointState.CONSOLIDATING)
    return replace(_with_entry(endpoint, consolidation=begun), state=state)


def _completed(endpoint: Endpoint, decision: CompleteConsolidation) -> Endpoint:
    """A generation of its entry alone. The other workers are to end; their memory is reserved until
    they are gone."""
    alone = sole_member(decision.worker_id, decision.num_layers)
    changed = _with_entry(
        endpoint,
        consolidation=None,
        unit_digests=decision.unit_digests,
        stage_index=0,
        is_connected=False,
    )
    workers = tuple(
        worker if worker.id == decision.worker_id else replace(worker, is_desired=False)
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


def _with_entry(endpoint: Endpoint, **changes: Any) -> Endpoint:
    entry = endpoint.entry
    workers = tuple(
        replace(worker, **changes) if entry is not None and worker.id == entry.id else worker
        for worker in endpoint.workers
    )
    return replace(endpoint, workers=workers)


def _state(endpoint: Endpoint, before: EndpointState, then: EndpointState) -> EndpointState:
    return then if endpoint.state is before else endpoint.state
