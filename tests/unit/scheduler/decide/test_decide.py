"""One round's decisions, from values alone: no database, no bus, no event loop."""

from dataclasses import replace

import pytest

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.causes import Cause, CauseKind
from libs.common.reasons import Reason
from libs.common.states import (
    EndpointState,
    FetchState,
    ModelState,
    WorkerState,
)
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP, Changed
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.decide import decide, decide_round
from services.scheduler.policy.effects import after
from services.scheduler.policy.liveness import Liveness, agent_of, gateway_of
from services.scheduler.policy.nodes.cached_units import CachedUnits, UnitHolders
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from tests.unit.scheduler.snapshots import GATEWAY, SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

KILLED = Cause.of(CauseKind.PROCESS_EXITED, signal=9)


@pytest.fixture
def cluster() -> SmallCluster:
    """Two nodes, one model, nobody asks."""
    made = SmallCluster()
    for node_id in ("node-1", "node-2"):
        made.add_node(node_id)
    made.add_model(a_model("model-1"), summary())
    return made


def start(cluster: SmallCluster, model_id: str = "model-1") -> Endpoint:
    """An endpoint that has just been planned for a request-of-the model."""
    cluster.add_request(a_request(f"request-of-{model_id}", model_id))
    snapshot = cluster.snapshot()
    cluster.follow(after(snapshot, decide(snapshot, SWEEP)))
    (found,) = [e for e in cluster.endpoints.values() if e.model_id == model_id]
    return found


def serve(cluster: SmallCluster, model_id: str = "model-1") -> Endpoint:
    """The same, ready, with its request assigned."""
    endpoint = start(cluster, model_id)
    cluster.hear_ready(endpoint)
    for _ in range(3):
        snapshot = cluster.snapshot()
        cluster.follow(after(snapshot, decide(snapshot, SWEEP)))
    return cluster.endpoints[endpoint.id]


def kinds(decisions: tuple[d.Decision, ...]) -> list[str]:
    return [type(decision).__name__ for decision in decisions]


def test_a_start_that_nobody_waits_for_is_kept_until_its_nodes_have_had_the_time_to_be_heard(
    cluster: SmallCluster,
) -> None:
    endpoint = start(cluster)
    cluster.requests.clear()
    snapshot = cluster.snapshot()
    just_begun = Liveness(0.5, dict.fromkeys(snapshot.observed.liveness.heard_s, 0.5))
    too_early = snapshot.changed(observed=replace(snapshot.observed, liveness=just_begun))

    assert not [x for x in decide(too_early, SWEEP) if isinstance(x, d.StopWorkers)]
    (stopped,) = [x for x in decide(snapshot, SWEEP) if isinstance(x, d.StopWorkers)]
    assert stopped.endpoint_id == endpoint.id


def test_nothing_is_decided_where_nothing_is_asked_for(cluster: SmallCluster) -> None:
    assert decide(cluster.snapshot(), SWEEP) == ()


def test_a_request_for_a_cold_model_starts_an_endpoint_with_a_plan_and_a_reason(
    cluster: SmallCluster,
) -> None:
    cluster.add_request(a_request("request-1", "model-1"))

    decisions = decide(cluster.snapshot(), Changed(models=frozenset({"model-1"})))

    (begun,) = [x for x in decisions if isinstance(x, d.StartEndpoint)]
    assert begun.request_id == "request-1"
    assert [stage.device_bytes for stage in begun.plan.stages] == [610]


def test_what_was_looked_at_and_lost_is_told_with_the_plan(cluster: SmallCluster) -> None:
    cluster.add_model(a_model("model-1", max_pipeline_size=2, slo_ttft_s=4.5), summary())
    cluster.add_request(a_request("request-1", "model-1"))

    (begun,) = [x for x in decide(cluster.snapshot(), SWEEP) if isinstance(x, d.StartEndpoint)]

    assert len(begun.plan.stages) == 2
    # The request came a second ago; 510 bytes come with 100 bytes/s, or with twice as much, and
    # the stage computes 0.1 s after the last one.
    assert [(c.num_stages, c.num_full, c.verdict) for c in begun.considered] == [
        (2, 1, "taken: the cheapest that meets both targets"),
        (1, 1, "first token after 6.20 s, target 4.50 s"),
    ]
    assert begun.prediction == begun.considered[0].prediction


def test_the_same_snapshot_gives_the_same_decisions_with_the_same_ids(
    cluster: SmallCluster,
) -> None:
    cluster.add_request(a_request("request-1", "model-1"))
    snapshot = cluster.snapshot()

    assert decide(snapshot, SWEEP) == decide(snapshot, SWEEP)
    other = decide(snapshot.changed(nonce="another round"), SWEEP)
    assert other != decide(snapshot, SWEEP), "ids are of one round"


def test_an_endpoint_that_starts_is_given_the_requests_that_wait(cluster: SmallCluster) -> None:
    endpoint = start(cluster)
    snapshot = cluster.snapshot()

    (given,) = [x for x in decide(snapshot, SWEEP) if isinstance(x, d.AssignRequest)]

    assert (given.request_id, given.endpoint_id) == ("request-of-model-1", endpoint.id)


def test_an_endpoint_serves_once_every_member_is_ready(cluster: SmallCluster) -> None:
    endpoint = start(cluster)
    assert d.ServeEndpoint not in map(type, decide(cluster.snapshot(), SWEEP))

    cluster.hear_ready(endpoint)

    decisions = decide(cluster.snapshot(), SWEEP)
    assert d.ServeEndpoint in map(type, decisions)
    state = after(cluster.snapshot(), decisions).endpoints[endpoint.id].state
    assert state is EndpointState.STANDALONE


def test_stages_are_introduced_once_all_have_registered(cluster: SmallCluster) -> None:
    changes = {"max_pipeline_size": 2, "min_pipeline_size": 2}
    cluster.add_model(a_model("model-1", **changes), summary())
    endpoint = start(cluster)
    for worker in endpoint.workers:
        seen = WorkerObserved(
            worker_id=worker.id,
            endpoint_id=endpoint.id,
            state=WorkerState.REGISTERED,
            address=f"tcp://{worker.node_id}:1",
            public_key="k" * 40,
        )
        cluster.hear_worker(worker.node_id, seen)

    linked = [x for x in decide(cluster.snapshot(), SWEEP) if isinstance(x, d.ConnectWorker)]

    assert [(x.worker_id, x.previous.worker_id, x.following.worker_id) for x in linked] == [
        (endpoint.workers[0].id, endpoint.workers[1].id, endpoint.workers[1].id),
        (endpoint.workers[1].id, endpoint.workers[0].id, endpoint.workers[0].id),
    ]


def test_a_member_that_dies_fails_the_endpoint_and_another_one_is_started_elsewhere(
    cluster: SmallCluster,
) -> None:
    endpoint = start(cluster)
    (worker,) = endpoint.workers
    died = WorkerObserved(
        worker_id=worker.id, endpoint_id=endpoint.id, state=WorkerState.FAILED, cause=KILLED
    )
    cluster.hear_worker(worker.node_id, died)

    decisions = decide(cluster.snapshot(), SWEEP)

    (failed,) = [x for x in decisions if isinstance(x, d.FailEndpoint)]
    assert failed.cause.kind is CauseKind.PROCESS_EXITED
    assert failed.guilty_worker_id == worker.id
    assert failed.backoff is not None and failed.backoff.num_failed_starts == 1
    (again,) = [x for x in decisions if isinstance(x, d.StartEndpoint)]
    assert [stage.node_id for stage in again.plan.stages] != [worker.node_id]


def test_a_worker_that_is_no_member_of_the_generation_may_leave(cluster: SmallCluster) -> None:
    endpoint = serve(cluster)
    leaver = replace(endpoint.workers[0], id="worker-leaver", node_id="node-2")
    cluster.endpoints[endpoint.id] = replace(endpoint, workers=(*endpoint.workers, leaver))
    left = WorkerObserved(
        worker_id=leaver.id, endpoint_id=endpoint.id, state=WorkerState.FAILED, cause=KILLED
    )
    cluster.hear_worker("node-2", left)

    decisions = decide(cluster.snapshot(), SWEEP)

    assert kinds(decisions) == ["EndWorker"]


def test_a_lost_node_takes_its_endpoint_with_it_and_costs_the_model_nothing(
    cluster: SmallCluster,
) -> None:
    endpoint = start(cluster)
    cluster.silence_s[agent_of(endpoint.workers[0].node_id)] = cluster.limits.node_lost_s + 1

    (failed,) = [x for x in decide(cluster.snapshot(), SWEEP) if isinstance(x, d.FailEndpoint)]

    assert failed.cause.kind is CauseKind.NODE_LOST
    assert failed.backoff is None
    assert failed.node_fault is not None


def test_an_idle_endpoint_drains_when_its_keep_alive_is_over(cluster: SmallCluster) -> None:
    endpoint = serve(cluster)
    cluster.requests.clear()
    cluster.hear_ready(endpoint, idle_ms=61_000)
    cluster.endpoints[endpoint.id] = replace(endpoint, idle_since_s=cluster.now_s - 61.0)

    decisions = decide(cluster.snapshot(), SWEEP)

    (drained,) = [x for x in decisions if isinstance(x, d.DrainEndpoint)]
    assert drained.why == "idle for its keep-alive"


def test_a_model_that_fits_nowhere_takes_the_room_of_an_idle_endpoint(
    cluster: SmallCluster,
) -> None:
    endpoint = serve(cluster)
    cluster.requests.clear()
    cluster.hear_ready(endpoint, idle_ms=5_000)
    cluster.endpoints[endpoint.id] = replace(
        endpoint, idle_since_s=cluster.now_s - 5.0, ready_since_s=cluster.now_s - 60.0
    )
    cluster.add_model(a_model("large", max_pipeline_size=2, kv_cache_bytes=900), summary())
    cluster.add_request(a_request("request-2", "large"))

    decisions = decide(cluster.snapshot(), SWEEP)

    (drained,) = [x for x in decisions if isinstance(x, d.DrainEndpoint)]
    assert drained.endpoint_id == endpoint.id
    (claim,) = [x for x in decisions if isinstance(x, d.ClaimRoom)]
    assert claim.plan is not None and len(claim.plan.stages) == 2


def test_a_model_that_no_device_could_ever_hold_ends_its_requests_at_once(
    cluster: SmallCluster,
) -> None:
    cluster.add_model(a_model("huge", kv_cache_bytes=10_000), summary())
    cluster.add_request(a_request("request-1", "huge"))

    (ended,) = decide(cluster.snapshot(), SWEEP)

    assert isinstance(ended, d.EndRequest)
    assert ended.reason is Reason.MODEL_TOO_LARGE
    assert "lower kv_cache_bytes" in ended.message


@pytest.mark.parametrize(
    ("changes", "silence_s", "reason", "why"),
    [
        (
            {"deadline_at_s": 999.0},
            0.0,
            Reason.DEADLINE_EXCEEDED,
            "its deadline passed in the queue",
        ),
        ({}, 11.0, Reason.GATEWAY_LOST, "its gateway is silent"),
        (
            {"deadline_at_s": 960.0, "endpoint_id": "endpoint-x"},
            0.0,
            Reason.DEADLINE_EXCEEDED,
            "nobody ended it at its endpoint",
        ),
    ],
)
def test_requests_that_nobody_will_serve_end(
    cluster: SmallCluster,
    changes: dict[str, object],
    silence_s: float,
    reason: Reason,
    why: str,
) -> None:
    cluster.add_request(a_request("request-1", "model-1", **changes))
    cluster.silence_s[gateway_of(GATEWAY)] = silence_s

    ended = [x for x in decide(cluster.snapshot(), SWEEP) if isinstance(x, d.EndRequest)]

    assert [x.reason for x in ended] == [reason], why


def test_requests_of_a_deleted_model_end(cluster: SmallCluster) -> None:
    cluster.models["model-1"] = replace(cluster.models["model-1"], state=ModelState.DELETING)
    cluster.add_request(a_request("request-1", "model-1"))

    (ended,) = decide(cluster.snapshot(), SWEEP)

    assert isinstance(ended, d.EndRequest) and ended.reason is Reason.MODEL_NOT_FOUND


def test_a_model_that_backs_off_is_not_started_and_tells_why(cluster: SmallCluster) -> None:
    failing = replace(cluster.models["model-1"], num_failed_starts=3, backoff_until_s=2000.0)
    cluster.models["model-1"] = failing
    cluster.add_request(a_request("request-1", "model-1"))

    (ended,) = decide(cluster.snapshot(), SWEEP)

    assert isinstance(ended, d.EndRequest)
    assert "failed to start 3 times" in ended.message
    assert (ended.reason, ended.retry_after_s) == (Reason.MODEL_BACKING_OFF, 1000)


def test_only_what_has_changed_is_looked_at(cluster: SmallCluster) -> None:
    ready = start(cluster)
    cluster.hear_ready(ready)
    node_id = ready.workers[0].node_id
    other = ({"node-1", "node-2"} - {node_id}).pop()
    snapshot = cluster.snapshot()

    def has_served(changed: Changed) -> bool:
        return d.ServeEndpoint in map(type, decide(snapshot, changed))

    assert not has_served(Changed(nodes=frozenset({other})))
    assert has_served(Changed(nodes=frozenset({node_id})))
    assert has_served(SWEEP)


def test_a_round_goes_on_until_nothing_is_left(cluster: SmallCluster) -> None:
    cluster.add_request(a_request("request-1", "model-1"))
    first = decide_round(cluster.snapshot(), SWEEP, NodeMemo())
    assert first.is_unfinished, "the request is given to the endpoint in the next one"

    second = decide_round(first.snapshot, Changed(is_continued=True), NodeMemo())

    assert kinds(second.decisions) == ["AssignRequest"]
    assert not second.is_unfinished


def _poison_model(cluster: SmallCluster) -> None:
    """Its manifest's summary makes the planner fail."""
    broken = a_model("poison", max_pipeline_size=2)
    bad = summary().model_copy(update={"units": None})
    cluster.add_model(broken, bad)
    cluster.add_request(a_request("request-of-poison", "poison"))


def _poison_row(cluster: SmallCluster) -> None:
    """No request ever fits on its endpoints, which a row of old may say."""
    cluster.add_model(a_model("poison", max_slots=0), summary())
    cluster.add_request(a_request("request-of-poison", "poison"))


def _poison_node(cluster: SmallCluster) -> None:
    """Its heartbeat holds what no door would have let in."""
    cluster.add_node("node-poison", memory_bytes=10**6)
    beat = cluster.fetchers["node-poison"]
    cluster.fetchers["node-poison"] = beat.model_copy(update={"fetches": None})


def _poison_network(cluster: SmallCluster) -> None:
    """Its fetches make no sense, and all else does."""
    cluster.add_node("node-poison", memory_bytes=10)
    fetch = FetchObserved(fetch_id="f", state=FetchState.FETCHING, bytes_done=1, bytes_total=2)
    cluster.hear_fetch("node-poison", fetch.model_copy(update={"bytes_total": "two"}))


def test_a_model_and_those_behind_it_wait_until_it_is_known_what_nodes_have_of_it(
    cluster: SmallCluster,
) -> None:
    cluster.add_model(a_model("model-2"), summary())
    for model_id in ("model-1", "model-2"):
        cluster.add_request(a_request(f"request-of-{model_id}", model_id))
    units = frozenset(unit.digest for unit in summary().units)
    unread = CachedUnits()
    second_only = unread.including({"manifest of model-2": UnitHolders(units)})
    both = second_only.including({"manifest of model-1": UnitHolders(units)})

    for cached, expected in ((unread, set()), (second_only, set()), (both, {"model-1", "model-2"})):
        decided = decide_round(cluster.snapshot().changed(cached=cached), SWEEP, NodeMemo())

        begun = {x.model_id for x in decided.decisions if isinstance(x, d.StartEndpoint)}
        assert begun == expected
        assert decided.has_unreached == (not expected), "another round follows, which reads it"


@pytest.mark.parametrize("poison", [_poison_model, _poison_row, _poison_node, _poison_network])
def test_one_poisoned_model_or_node_changes_nothing_for_the_others(
    cluster: SmallCluster, poison: object
) -> None:
    serve(cluster)
    for name in ("model-2", "model-3"):
        cluster.add_model(a_model(name, kv_cache_bytes=50), summary(unit_sizes=(10, 20, 20, 10)))
        cluster.add_request(a_request(f"request-of-{name}", name))
    healthy = decide(cluster.snapshot(), SWEEP)
    assert callable(poison)
    poison(cluster)

    poisoned = decide(cluster.snapshot(), SWEEP)

    skipped = [x for x in poisoned if isinstance(x, d.SkipModel | d.SkipNode)]
    others = tuple(x for x in poisoned if x.model_id not in ("poison", ""))
    assert len(skipped) == 1
    assert others == healthy
    assert [x for x in healthy if isinstance(x, d.StartEndpoint)]


def test_a_model_on_a_poisoned_node_is_skipped_whole(cluster: SmallCluster) -> None:
    endpoint = start(cluster)
    node_id = endpoint.workers[0].node_id
    cluster.agents[node_id] = cluster.agents[node_id].model_copy(update={"workers": None})

    decisions = decide(cluster.snapshot(), SWEEP)

    assert "SkipModel" in kinds(decisions)
    assert not any(isinstance(x, d.FailEndpoint | d.EndWorker) for x in decisions)


def test_a_fetch_that_failed_fails_its_start(cluster: SmallCluster) -> None:
    endpoint = start(cluster)
    (worker,) = endpoint.workers
    assert worker.fetch_id is not None
    cause = Cause.of(CauseKind.UNIT_CORRUPT, key="units/ab")
    failed = FetchObserved(fetch_id=worker.fetch_id, state=FetchState.FAILED, cause=cause)
    cluster.hear_fetch(worker.node_id, failed)

    (ended,) = [x for x in decide(cluster.snapshot(), SWEEP) if isinstance(x, d.FailEndpoint)]

    assert ended.cause.kind is CauseKind.UNIT_CORRUPT
