"""What is decided of consolidations that are under way, by what workers, fetches and time say."""

from dataclasses import replace

import pytest

from libs.common.causes import Cause, CauseKind
from libs.common.states import (
    ConsolidationPhase,
    ConsolidationState,
    EndpointState,
    FetchState,
    WorkerState,
)
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.policy.consolidation.effects import moved
from services.scheduler.policy.decide import decide
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.rules.consolidations import follow_consolidation, record_switch
from services.scheduler.policy.rules.scale_ups import follow_scale_ups
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.policy.consolidation.pipelines import (
    UNITS,
    pipeline,
    rest,
    says,
    seen,
    snapshot_of,
    with_open,
)
from tests.unit.scheduler.values import NOW_S, fetch

PHASES = ConsolidationPhase
LOADING = with_open(pipeline())
COPYING = with_open(pipeline(), state=ConsolidationState.COPYING)
ENTRY = LOADING.workers[0]
NO_ROOM = Cause.of(CauseKind.FETCHER_FAILED)
FAILED = {"node-0": (rest(FetchState.FAILED, cause=NO_ROOM),)}


def idle(there: Endpoint, kept_s: float) -> Snapshot:
    """The fetch lacks 450 bytes of 600, 0.55 s with the tail."""
    own = replace(there, idle_since_s=NOW_S - 60.0 + kept_s)
    running = rest(FetchState.FETCHING, bytes_done=150, bytes_total=600)
    return snapshot_of(own, fetches={"node-0": (running,)})


def entry_says(there: Endpoint, phase: ConsolidationPhase, generation: int = 2) -> Snapshot:
    told = says(phase, "no room", generation)
    return snapshot_of(there, [seen(ENTRY, consolidation=told)])


@pytest.mark.parametrize(
    ("there", "kind", "why"),
    [
        (snapshot_of(LOADING), None, "its layers come"),
        (entry_says(LOADING, PHASES.LOADING), None, "its layers come"),
        (entry_says(LOADING, PHASES.COPYING), c.RecordConsolidation, ""),
        (entry_says(LOADING, PHASES.SWITCHED), c.RecordConsolidation, "its generation will follow"),
        (entry_says(COPYING, PHASES.COPYING), None, "it is recorded"),
        (entry_says(LOADING, PHASES.ABANDONED), c.AbandonConsolidation, "gave up: no room"),
        (entry_says(COPYING, PHASES.ABANDONED), c.AbandonConsolidation, "gave up: no room"),
        (entry_says(LOADING, PHASES.ABANDONED, 3), None, "that is of another one"),
        (snapshot_of(LOADING, fetches=FAILED), c.AbandonConsolidation, "could not be fetched"),
        (snapshot_of(COPYING, fetches=FAILED), None, "it has all layers"),
        (snapshot_of(LOADING, limits=Limits()), c.AbandonConsolidation, "not consolidated any"),
        (snapshot_of(LOADING, now_s=NOW_S + 169.0), None, "60 s for the weights, 120 for the rest"),
        (snapshot_of(LOADING, now_s=NOW_S + 171.0), c.AbandonConsolidation, "not switched in time"),
        (snapshot_of(COPYING, now_s=NOW_S + 171.0), c.AbandonConsolidation, "not switched in time"),
        (idle(LOADING, 0.6), None, "it is kept for as long"),
        (idle(LOADING, 0.5), c.AbandonConsolidation, "its keep-alive would be over first"),
        (idle(COPYING, 0.5), None, "it has all layers: the rest takes a moment"),
    ],
)
def test_of_an_entry(there: Snapshot, kind: type[d.Decision] | None, why: str) -> None:
    (own,) = there.endpoints
    decisions = tuple(follow_consolidation(there, own))
    assert [type(decision) for decision in decisions] == ([] if kind is None else [kind])
    if kind is c.AbandonConsolidation:
        (abandoned,) = decisions
        assert isinstance(abandoned, c.AbandonConsolidation) and why in abandoned.why


@pytest.mark.parametrize(
    ("there", "counts"),
    [
        (entry_says(LOADING, PHASES.ABANDONED), True),
        (snapshot_of(LOADING, fetches=FAILED), True),
        (snapshot_of(COPYING, now_s=NOW_S + 171.0), True),
        (idle(LOADING, 0.5), False),
        (snapshot_of(LOADING, limits=Limits()), False),
    ],
)
def test_as_a_try_counts_what_its_entry_or_its_fetch_gave_up(there: Snapshot, counts: bool) -> None:
    (own,) = there.endpoints
    (abandoned,) = follow_consolidation(there, own)
    assert isinstance(abandoned, c.AbandonConsolidation)
    assert abandoned.counts is counts
    after = moved(own, abandoned, NOW_S)
    assert (after.state, after.consolidation) == (EndpointState.PIPELINED, None)
    assert after.consolidation_tries.count == counts


@pytest.mark.parametrize("before", [LOADING, COPYING, pipeline()], ids=["loading", "copying", "no"])
def test_a_switch_is_recorded_whoever_had_it_on_record(before: Endpoint) -> None:
    there = snapshot_of(before, [seen(ENTRY, generation=2)])
    (done,) = record_switch(there, before)
    assert isinstance(done, c.CompleteConsolidation)
    assert (done.worker_id, done.generation, done.unit_digests) == ("worker-0", 2, UNITS)
    assert before.consolidation is None or done.consolidation_id == before.consolidation.id
    assert tuple(record_switch(snapshot_of(before), before)) == ()


def test_from_the_switch_on_the_end_of_another_stage_is_no_loss() -> None:
    """One round hears of both."""
    gone = seen(LOADING.workers[1], WorkerState.FAILED, cause=Cause(CauseKind.PROCESS_EXITED))
    there = snapshot_of(COPYING, [seen(ENTRY, generation=2), gone])
    decisions = decide(there, SWEEP)
    assert isinstance(decisions[0], c.CompleteConsolidation)
    assert not [decision for decision in decisions if isinstance(decision, d.FailEndpoint)]


def test_before_it_the_end_of_a_stage_ends_all() -> None:
    gone = seen(LOADING.workers[1], WorkerState.FAILED, cause=Cause(CauseKind.PROCESS_EXITED))
    decisions = decide(snapshot_of(LOADING, [gone]), SWEEP)
    assert [decision for decision in decisions if isinstance(decision, d.FailEndpoint)]


# ---------------------------------------------------------------------- other workers

GROWING = with_open(with_open(pipeline(2)), 1)
OTHER = GROWING.workers[1]


def after_the_switch(there: Endpoint) -> Endpoint:
    (done,) = record_switch(snapshot_of(there, [seen(ENTRY, generation=2)]), there)
    return moved(there, done, NOW_S)


LEFT = after_the_switch(GROWING)


def other_says(there: Endpoint, phase: ConsolidationPhase, generation: int = 1) -> Snapshot:
    told = says(phase, "no room")
    return snapshot_of(there, [seen(OTHER, consolidation=told, generation=generation)])


def other_fetch_failed(there: Endpoint) -> Snapshot:
    failed = fetch(FetchState.FAILED, fetch_id="rest-1", cause=NO_ROOM)
    return snapshot_of(there, fetches={"node-1": (failed,)})


@pytest.mark.parametrize(
    ("there", "kind", "why"),
    [
        (snapshot_of(GROWING), None, "its layers come"),
        (snapshot_of(LEFT), None, "its layers come, and nobody waits for it"),
        (other_says(GROWING, PHASES.SWITCHED, 2), None, "its parent is not recorded as one yet"),
        (other_says(LEFT, PHASES.SWITCHED, 2), c.SeparateWorker, ""),
        (other_says(GROWING, PHASES.ABANDONED), c.AbandonConsolidation, "gave up: no room"),
        (other_says(LEFT, PHASES.ABANDONED), c.AbandonConsolidation, "gave up: no room"),
        (other_fetch_failed(GROWING), c.AbandonConsolidation, "could not be fetched"),
        (snapshot_of(GROWING, limits=Limits()), c.AbandonConsolidation, "not consolidated any"),
        (snapshot_of(LEFT, now_s=NOW_S + 171.0), c.AbandonConsolidation, "not all layers in time"),
        (
            snapshot_of(with_open(pipeline(2), 1)),
            c.AbandonConsolidation,
            "its pipeline stays one",
        ),
        (
            snapshot_of(replace(LEFT, state=EndpointState.DRAINING)),
            c.AbandonConsolidation,
            "takes no more",
        ),
    ],
)
def test_of_another_worker(there: Snapshot, kind: type[d.Decision] | None, why: str) -> None:
    (own,) = there.endpoints
    decisions = tuple(follow_scale_ups(there, own))
    assert [type(decision) for decision in decisions] == ([] if kind is None else [kind])
    if kind is c.AbandonConsolidation:
        (abandoned,) = decisions
        assert isinstance(abandoned, c.AbandonConsolidation) and why in abandoned.why
