"""What a request is told whose deadline passes while nothing of its model starts."""

from dataclasses import replace

import pytest

from libs.common.reasons import Reason
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

SWEEP = Changed(is_sweep=True)


def waiting(cluster: SmallCluster) -> Snapshot:
    """After a round in which the model's request was not given anything."""
    cluster.add_model(a_model("model-1"), summary())
    cluster.add_request(a_request("request-1", "model-1"))
    decided = decide_round(cluster.snapshot(), SWEEP, NodeMemo())
    assert not any(isinstance(x, d.StartEndpoint | d.EndRequest) for x in decided.decisions)
    return decided.snapshot


def end_of(snapshot: Snapshot) -> d.EndRequest:
    """Of its only request, at its deadline."""
    (request,) = snapshot.requests
    overdue = snapshot.requests.updated({request.id: replace(request, deadline_at_s=0.0)})
    decided = decide_round(snapshot.changed(requests=overdue), SWEEP, NodeMemo())
    (ended,) = (x for x in decided.decisions if isinstance(x, d.EndRequest))
    return ended


def filled() -> SmallCluster:
    """Somebody else has filled the shared memory of its node."""
    cluster = SmallCluster()
    cluster.add_node("node-1", cache_capacity_bytes=100)
    return cluster


def silent() -> SmallCluster:
    """Its node's fetcher is not heard, and may come again."""
    cluster = SmallCluster()
    cluster.add_node("node-1")
    del cluster.fetchers["node-1"]
    return cluster


def contended() -> SmallCluster:
    """Another model has the only node, and is busy."""
    cluster = SmallCluster()
    cluster.add_node("node-1")
    cluster.add_model(a_model("other"), summary())
    cluster.add_request(a_request("request-of-other", "other"))
    snapshot = decide_round(cluster.snapshot(), SWEEP, NodeMemo()).snapshot
    cluster.follow(snapshot)
    cluster.requests.clear()
    return cluster


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        (filled(), Reason.NODE_FAULT),
        (silent(), Reason.NODE_FAULT),
        (contended(), Reason.CLUSTER_FULL),
    ],
    ids=["filled", "silent", "contended"],
)
def test_who_waits_in_vain_is_told_what_for(cluster: SmallCluster, reason: Reason) -> None:
    snapshot = waiting(cluster)

    assert snapshot.waits_for("model-1") is reason
    assert end_of(snapshot).reason is reason


def test_once_the_shared_memory_is_free_again_the_node_is_used() -> None:
    cluster = filled()
    snapshot = waiting(cluster)
    cluster.add_node("node-1")
    free = cluster.snapshot().changed(queue=snapshot.queue)

    decided = decide_round(free, SWEEP, NodeMemo())

    (begun,) = (x for x in decided.decisions if isinstance(x, d.StartEndpoint))
    assert [stage.node_id for stage in begun.plan.stages] == ["node-1"]
    assert decided.snapshot.waits_for("model-1") is None


def test_what_even_free_shared_memory_could_not_hold_is_refused_at_once() -> None:
    cluster = filled()
    cluster.add_model(a_model("model-1"), summary(unit_sizes=(100, 2 * 10**9, 10)))
    cluster.add_request(a_request("request-1", "model-1"))

    decided = decide_round(cluster.snapshot(), SWEEP, NodeMemo())

    (ended,) = (x for x in decided.decisions if isinstance(x, d.EndRequest))
    assert ended.reason is Reason.MODEL_TOO_LARGE
