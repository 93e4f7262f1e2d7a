"""Plans of pipelines that can become one worker, and who uses a network beside them."""

import pytest

from libs.common.states import FetchState, WorkerState
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.planning.usable_cluster import NodeMemo, usable_cluster
from tests.unit.scheduler.values import (
    DIGEST,
    device,
    endpoint,
    fetch,
    model,
    snapshot,
    summary,
    unit_digest,
    worker,
)


@pytest.mark.parametrize("can_consolidate", [True, False])
def test_what_a_pipeline_can_become_is_told_to_its_plan(can_consolidate: bool) -> None:
    there = snapshot(limits=Limits(can_consolidate=can_consolidate))
    assert there.objective(model(), summary()).can_consolidate is can_consolidate


def test_a_pipeline_stays_one_unless_somebody_says_otherwise() -> None:
    assert not Limits().can_consolidate


def test_only_fetches_of_starts_share_the_network_with_one_more() -> None:
    """One is of a worker that starts; the rest of a model that serves comes in the background."""
    starting = worker(fetch_id="fetch-1", state=WorkerState.LAUNCHING)
    running = [
        fetch(FetchState.FETCHING, fetch_id=id_, bytes_done=0, bytes_total=9)
        for id_ in ("fetch-1", "fetch-2")
    ]
    there = snapshot(
        devices=[device("node-1", memory=1_000)],
        endpoints=[endpoint(workers=(starting,))],
        fetches={"node-1": tuple(running)},
    )
    (node,) = usable_cluster(there).nodes
    assert node.num_fetches == 1


def test_a_worker_that_gets_more_units_pins_them_too() -> None:
    """As when its pipeline becomes one worker; the memo must not keep what it had."""
    part = worker(manifest_digest=DIGEST, unit_digests=(unit_digest(0),))
    memo, summaries = NodeMemo(), {DIGEST: summary()}
    before = snapshot(
        devices=[device("node-1", memory=1_000)],
        endpoints=[endpoint(workers=(part,))],
        summaries=summaries,
    )
    (node,) = usable_cluster(before, memo).nodes
    assert set(node.held_units) == {unit_digest(0)}
    whole = worker(manifest_digest=DIGEST, unit_digests=(unit_digest(0), unit_digest(1)))
    after = before.changed(
        endpoints=before.endpoints.updated({"endpoint-1": endpoint(workers=(whole,))})
    )
    (node,) = usable_cluster(after, memo).nodes
    (anew,) = usable_cluster(after).nodes
    assert node.held_units == anew.held_units
    assert set(node.held_units) == {unit_digest(0), unit_digest(1)}
