"""A burst starts all the endpoints that it takes, beside each other."""

from dataclasses import replace

from services.scheduler.policy.changes import SWEEP, Changed
from services.scheduler.policy.cluster import Model
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.decisions import Decision, StartEndpoint
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

MODEL_BYTES = summary().weight_bytes + 100  # with its KV cache


def a_cluster(num_places: int, *models: Model) -> SmallCluster:
    """Each node has room for one endpoint."""
    made = SmallCluster()
    for i in range(num_places):
        made.add_node(f"node-{i}", memory_bytes=MODEL_BYTES)
    for model in models:
        made.add_model(model, summary())
    return made


def ask(cluster: SmallCluster, model_id: str, num_requests: int, first: int = 0) -> None:
    for i in range(first, first + num_requests):
        cluster.add_request(a_request(f"of-{model_id}-{i}", model_id))


def starts(decisions: tuple[Decision, ...]) -> list[str]:
    return [x.model_id for x in decisions if isinstance(x, StartEndpoint)]


def test_one_round_starts_the_whole_set() -> None:
    cluster = a_cluster(8, a_model("busy", max_slots=2, max_endpoints=6))
    ask(cluster, "busy", 9)

    decided = decide_round(cluster.snapshot(), SWEEP, NodeMemo())

    # Nine requests take ceil(9 / 2) = 5 endpoints of two slots each.
    assert starts(decided.decisions) == ["busy"] * 5
    begun = [x for x in decided.decisions if isinstance(x, StartEndpoint)]
    assert len({x.endpoint_id for x in begun}) == 5
    assert len({stage.node_id for x in begun for stage in x.plan.stages}) == 5


def test_what_comes_during_a_cold_start_starts_beside_it() -> None:
    cluster = a_cluster(8, a_model("busy", max_slots=2, max_endpoints=6))
    ask(cluster, "busy", 4)
    first = decide_round(cluster.snapshot(), SWEEP, NodeMemo())
    assert starts(first.decisions) == ["busy"] * 2

    cluster.follow(first.snapshot)
    ask(cluster, "busy", 3, first=4)
    later = decide_round(cluster.snapshot(nonce="another round"), SWEEP, NodeMemo())

    # Seven take four, of which two start already.
    assert starts(later.decisions) == ["busy"] * 2


def test_a_burst_leaves_others_their_first_endpoint() -> None:
    """Of three places the model that came first gets two, although it needs five."""
    models = (a_model("burst", max_slots=1, max_endpoints=9), a_model("other", tenant="tenant-2"))
    cluster = a_cluster(3, *models)
    ask(cluster, "burst", 5)
    ask(cluster, "other", 1)
    cluster.requests["of-other-0"] = replace(
        cluster.requests["of-other-0"], arrived_at_s=cluster.now_s
    )

    decided = decide_round(cluster.snapshot(), SWEEP, NodeMemo())

    assert starts(decided.decisions) == ["burst", "other", "burst"]


def test_who_finds_no_room_for_its_whole_set_starts_what_there_is_room_for() -> None:
    cluster = a_cluster(2, a_model("busy", max_slots=1, max_endpoints=9))
    ask(cluster, "busy", 5)

    decided = decide_round(cluster.snapshot(), SWEEP, NodeMemo())
    again = decide_round(
        decided.snapshot.changed(nonce="another round"), Changed(is_continued=True), NodeMemo()
    )

    assert starts(decided.decisions) == ["busy"] * 2
    assert starts(again.decisions) == []
