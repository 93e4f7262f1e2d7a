"""What decisions about consolidations change of endpoints."""

from dataclasses import replace

import pytest

from libs.common.states import (
    ConsolidationState,
    EndpointState,
    MemberMemory,
    MemberRole,
)
from services.scheduler.policy.cluster import Endpoint, Member
from services.scheduler.policy.consolidation import decisions as c
from services.scheduler.policy.effects import after
from tests.unit.scheduler.policy.consolidation.pipelines import (
    FULL_BYTES,
    UNITS,
    begun,
    pipeline,
    snapshot_of,
    with_open,
)

ABOUT = ("model-1", "endpoint-1", "consolidation-0", "node-0")
OF_OTHER = ("model-1", "endpoint-1", "consolidation-1", "node-1")
COMPLETE = c.CompleteConsolidation(
    *ABOUT,
    worker_id="worker-0",
    generation=2,
    freed_bytes=800,
    unit_digests=UNITS,
    num_layers=3,
    kv_bytes=40,
    why="it is whole",
)
SEPARATE = c.SeparateWorker(
    *OF_OTHER,
    worker_id="worker-1",
    child_id="child-1",
    generation=2,
    unit_digests=UNITS,
    num_layers=3,
    kv_bytes=40,
    why="it is whole",
)
ALONE = Member("worker-0", MemberRole.ENTRY, 0, 0, 3, MemberMemory.FULL)


def after_all(before: Endpoint, *decisions: c.ConsolidationDecision) -> dict[str, Endpoint]:
    """Endpoints by id."""
    return dict(after(snapshot_of(before), decisions).endpoints.rows)


def test_the_entry_has_a_target_from_the_beginning_on() -> None:
    there = snapshot_of(pipeline())
    (decision,) = begun(there)
    (own,) = after(there, (decision,)).endpoints
    assert own.state is EndpointState.CONSOLIDATING
    assert own.consolidation is not None
    assert own.consolidation.state is ConsolidationState.LOADING
    assert own.consolidation.unit_digests == UNITS[2:4]
    assert own.entry is not None and own.entry.held_digests == (
        *own.entry.unit_digests,
        *UNITS[2:4],
    )
    assert (own.generation, own.members) == (1, pipeline().members), "it is what it was"


def test_what_is_recorded_is_copying() -> None:
    own = after_all(with_open(pipeline()), c.RecordConsolidation(*ABOUT))["endpoint-1"]
    assert own.consolidation is not None
    assert own.consolidation.state is ConsolidationState.COPYING


@pytest.mark.parametrize("counts", [True, False])
def test_one_that_is_abandoned_is_a_pipeline_as_before(counts: bool) -> None:
    abandon = c.AbandonConsolidation(*ABOUT, why="for a test", counts=counts)
    own = after_all(with_open(pipeline()), abandon)["endpoint-1"]
    assert (own.state, own.consolidation) == (EndpointState.PIPELINED, None)
    assert own.workers == pipeline().workers
    assert own.consolidation_tries.count == counts


def test_one_that_drains_goes_on_draining_when_it_is_abandoned() -> None:
    draining = replace(with_open(pipeline()), state=EndpointState.DRAINING)
    abandon = c.AbandonConsolidation(*ABOUT, why="for a test", counts=False)
    own = after_all(draining, abandon)["endpoint-1"]
    assert (own.state, own.consolidation) == (EndpointState.DRAINING, None)


def test_once_complete_the_entry_is_all_and_the_others_are_to_end() -> None:
    own = after_all(with_open(pipeline()), COMPLETE)["endpoint-1"]
    assert (own.state, own.generation) == (EndpointState.STANDALONE, 2)
    assert own.members == (ALONE,)
    assert [worker.is_desired for worker in own.workers] == [True, False, False]
    assert own.entry is not None
    assert (own.entry.unit_digests, own.entry.is_connected) == (UNITS, False)
    assert own.entry.device_bytes == FULL_BYTES, "what is reserved for it is as it was"
    assert [worker.id for worker in own.leaving_workers] == ["worker-1", "worker-2"]


def test_those_that_grow_stay_when_their_pipeline_ends() -> None:
    growing = with_open(with_open(pipeline(2)), 1)
    own = after_all(growing, COMPLETE)["endpoint-1"]
    assert [worker.is_desired for worker in own.workers] == [True, True, False]
    assert [worker.id for worker in own.growing_workers] == ["worker-1"]


def test_one_that_is_separate_takes_its_reservation_with_it() -> None:
    growing = with_open(with_open(pipeline(2)), 1)
    there = after_all(growing, COMPLETE, SEPARATE)
    parent, child = there["endpoint-1"], there["child-1"]
    assert [worker.id for worker in parent.workers] == ["worker-0", "worker-2"]
    assert (child.state, child.generation) == (EndpointState.STARTING, 2)
    assert child.members == (Member("worker-1", MemberRole.ENTRY, 0, 0, 3, MemberMemory.FULL),)
    (own,) = child.workers
    assert (own.endpoint_id, own.stage_index, own.unit_digests) == ("child-1", 0, UNITS)
    assert (own.consolidation, own.device_bytes) == (None, FULL_BYTES)
    held = sum(worker.device_bytes for e in there.values() for worker in e.workers)
    assert held == sum(worker.device_bytes for worker in growing.workers)


@pytest.mark.parametrize(("has_switched", "stays"), [(False, True), (True, False)])
def test_another_one_without_a_target_stays_a_stage_or_ends_with_its_pipeline(
    has_switched: bool, stays: bool
) -> None:
    growing = with_open(with_open(pipeline(2)), 1)
    abandon = c.AbandonConsolidation(*OF_OTHER, why="for a test", counts=False)
    decisions = (COMPLETE, abandon) if has_switched else (abandon,)
    own = after_all(growing, *decisions)["endpoint-1"]
    assert own.growing_workers == ()
    assert own.workers[1].is_desired is stays
    assert (own.consolidation is None) is has_switched, "the entry's goes on"
