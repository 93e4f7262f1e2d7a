"""Starts come only to network cards where those before them still meet their targets."""

import pytest

from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

NUM_MODELS = 10


def cluster_with_models(ttft_s: float, num_nodes: int = 1) -> SmallCluster:
    """510 bytes each, over cards of 100 bytes/s; all are asked for at once, a second ago."""
    made = SmallCluster()
    for i in range(num_nodes):
        made.add_node(f"node-{i}", memory_bytes=100_000)
    for i in range(NUM_MODELS):
        made.add_model(a_model(f"model-{i}", slo_ttft_s=ttft_s), summary())
        made.add_request(a_request(f"request-{i}", f"model-{i}"))
    return made


def starts(snapshot: Snapshot) -> list[d.StartEndpoint]:
    decided = decide_round(snapshot, SWEEP, NodeMemo())
    return [x for x in decided.decisions if isinstance(x, d.StartEndpoint)]


@pytest.mark.parametrize(
    ("ttft_s", "num_started", "reason"),
    [
        (7.0, 1, "5.1 s alone; beside a second one each takes 10.2 s"),
        (12.0, 2, "two take 10.2 s, three 15.3 s"),
        (17.0, 3, "three take 15.3 s, four 20.4 s"),
        (3.0, NUM_MODELS, "all miss their targets anyway, so none keeps another one away"),
    ],
)
def test_ten_cold_starts_that_want_one_network_card(
    ttft_s: float, num_started: int, reason: str
) -> None:
    cluster = cluster_with_models(ttft_s)

    assert len(starts(cluster.snapshot())) == num_started, reason


def test_who_is_refused_on_one_node_goes_to_another_one_and_the_rest_is_told_why_it_waits() -> None:
    snapshot = cluster_with_models(7.0, num_nodes=3).snapshot()

    decided = decide_round(snapshot, SWEEP, NodeMemo())

    begun = [x for x in decided.decisions if isinstance(x, d.StartEndpoint)]
    assert sorted(x.plan.stages[0].node_id for x in begun) == ["node-0", "node-1", "node-2"]
    waits = [x for x in decided.decisions if isinstance(x, d.Wait)]
    assert len(waits) == NUM_MODELS - 3
    assert all("miss their targets" in wait.why for wait in waits)


def test_whoever_has_waited_for_long_is_kept_away_no_more() -> None:
    cluster = cluster_with_models(100.0)
    cluster.now_s += cluster.limits.claim_after_s

    assert len(starts(cluster.snapshot())) == NUM_MODELS


def test_a_deadline_is_forgotten_once_its_endpoint_serves() -> None:
    cluster = cluster_with_models(7.0)
    decided = decide_round(cluster.snapshot(), SWEEP, NodeMemo())
    (endpoint,) = decided.snapshot.endpoints.rows.values()
    assert set(decided.snapshot.fetch_deadlines_s) == {endpoint.id}

    cluster.follow(decided.snapshot)
    cluster.hear_ready(endpoint)
    served = decide_round(cluster.snapshot().remembering(decided.snapshot), SWEEP, NodeMemo())

    assert endpoint.id not in served.snapshot.fetch_deadlines_s


def test_a_deadline_is_forgotten_with_an_endpoint_that_no_row_has_any_more() -> None:
    cluster = cluster_with_models(7.0)
    before = decide_round(cluster.snapshot(), SWEEP, NodeMemo()).snapshot
    (endpoint_id,) = before.fetch_deadlines_s

    assert not cluster.snapshot().remembering(before).fetch_deadlines_s, "it was never written"
    assert set(before.remembering(before).fetch_deadlines_s) == {endpoint_id}
    assert endpoint_id in before.endpoints
