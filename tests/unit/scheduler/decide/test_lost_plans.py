"""What was planned for does not come to be: a node is gone, memory is not free, nothing is large
enough. Models have 510 bytes of weights and 100 of KV cache."""

from dataclasses import replace

import pytest

from libs.common.causes import CauseKind
from libs.common.reasons import Reason
from libs.common.states import EndpointState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.decide import Decided, decide_round
from services.scheduler.policy.liveness import agent_of, fetcher_of
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

WHOLE_BYTES = 610
PART_BYTES = 400  # a device that holds no whole model


def a_cluster(*memory_bytes: int, num_stages: int = 1, kv_bytes: int = 100) -> SmallCluster:
    """A node for each, and a request for a model of at most so many stages."""
    made = SmallCluster()
    for i, memory in enumerate(memory_bytes):
        made.add_node(f"node-{i}", memory_bytes=memory)
    settings = {"max_pipeline_size": num_stages, "kv_cache_bytes": kv_bytes}
    made.add_model(a_model("asked", **settings), summary())
    made.add_request(a_request("request", "asked"))
    return made


def play(cluster: SmallCluster, nonce: str = "a round") -> Decided:
    decided = decide_round(cluster.snapshot(nonce=nonce), SWEEP, NodeMemo())
    cluster.follow(decided.snapshot)
    return decided


def started(decided: Decided) -> list[d.StartEndpoint]:
    return [x for x in decided.decisions if isinstance(x, d.StartEndpoint)]


def lose(cluster: SmallCluster, node_id: str) -> None:
    """Nobody there is heard any more."""
    for speaker in (agent_of(node_id), fetcher_of(node_id)):
        cluster.silence_s[speaker] = cluster.limits.node_lost_s + 1


@pytest.mark.parametrize("lost_stage", [0, 1])
def test_a_node_that_vanishes_between_plan_and_start_is_planned_without_in_the_next_round(
    lost_stage: int,
) -> None:
    cluster = a_cluster(PART_BYTES, PART_BYTES, PART_BYTES, num_stages=2)
    (first,) = started(play(cluster))
    lost = first.plan.stages[lost_stage].node_id
    assert len(first.plan.stages) == 2

    lose(cluster, lost)
    decided = play(cluster, "the next round")

    (failed,) = [x for x in decided.decisions if isinstance(x, d.FailEndpoint)]
    assert (failed.endpoint_id, failed.cause.kind) == (first.endpoint_id, CauseKind.NODE_LOST)
    assert failed.backoff is None, "that is not the model's fault"
    later = started(decided) or started(play(cluster, "one more"))
    (again,) = later
    nodes = [stage.node_id for stage in again.plan.stages]
    assert sorted(nodes) == sorted({"node-0", "node-1", "node-2"} - {lost})
    layers = [(s.layers.first_layer, s.layers.last_layer) for s in again.plan.stages]
    assert (layers[0][0], layers[0][1], layers[1][1]) == (0, layers[1][0], 2)


def test_where_the_node_that_vanished_was_needed_the_model_waits_until_it_is_back() -> None:
    cluster = a_cluster(PART_BYTES, PART_BYTES, num_stages=2)
    (first,) = started(play(cluster))
    lost = first.plan.stages[1].node_id

    lose(cluster, lost)
    assert not started(play(cluster, "without it"))
    waits = play(cluster, "still without it").snapshot.waits_for("asked")
    cluster.silence_s.clear()
    cluster.now_s += cluster.limits.suspect_s + 1

    assert waits is not None
    (again,) = started(play(cluster, "it is back"))
    assert {stage.node_id for stage in again.plan.stages} == {"node-0", "node-1"}


def ending(cluster: SmallCluster, node_id: str) -> Endpoint:
    """Another model's endpoint there that has failed, and whose worker its agent still names."""
    cluster.add_model(a_model("other"), summary())
    asked = dict(cluster.requests)
    cluster.requests = {"of-other": a_request("of-other", "other")}
    cluster.listed.add("of-other")
    devices = dict(cluster.devices)
    cluster.devices = {node_id: devices[node_id]}
    (begun,) = started(play(cluster, "of the other model"))
    cluster.devices, cluster.requests = devices, asked
    endpoint = cluster.endpoints[begun.endpoint_id]
    cluster.hear_ready(endpoint)
    workers = tuple(replace(worker, is_desired=False) for worker in endpoint.workers)
    ended = replace(endpoint, state=EndpointState.FAILED, workers=workers)
    cluster.endpoints[endpoint.id] = ended
    return ended


def test_memory_that_is_reserved_for_one_that_has_ended_is_free_once_its_worker_is_gone() -> None:
    cluster = a_cluster(1000)
    ended = ending(cluster, "node-0")

    before = play(cluster, "its worker is there")
    cluster.agents["node-0"] = cluster.agents["node-0"].model_copy(update={"workers": ()})
    after = play(cluster, "its worker is gone")

    assert not started(before), "610 of 1000 bytes are reserved"
    assert ended.id not in cluster.endpoints
    (begun,) = started(after)
    assert begun.plan.stages[0].device_bytes == WHOLE_BYTES


def test_where_reserved_memory_is_not_free_yet_a_start_goes_elsewhere() -> None:
    cluster = a_cluster(1000, 1000)
    ending(cluster, "node-0")

    (begun,) = started(play(cluster))

    assert [stage.node_id for stage in begun.plan.stages] == ["node-1"]


def test_a_model_larger_than_any_node_starts_as_a_pipeline() -> None:
    (begun,) = started(play(a_cluster(PART_BYTES, PART_BYTES, num_stages=4)))

    assert {stage.node_id for stage in begun.plan.stages} == {"node-0", "node-1"}
    assert all(stage.device_bytes <= PART_BYTES for stage in begun.plan.stages)


def test_a_model_larger_than_all_nodes_together_is_refused_with_the_cause() -> None:
    """610 bytes, and 3000 of KV cache, on two of 1000: four of them would do."""
    cluster = a_cluster(1000, 1000, num_stages=4, kv_bytes=3000)

    (ended,) = play(cluster).decisions

    assert isinstance(ended, d.EndRequest) and ended.reason is Reason.MODEL_TOO_LARGE
    for words in ("needs 3510 bytes", "at most 4 devices", "the 2 largest 2000 together", "add"):
        assert words in ended.message
