"""Whatever a cluster looks like, decisions keep the promises of docs/invariants.md."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.causes import Cause, CauseKind
from libs.common.states import EndpointState, FetchState, MemberRole, WorkerState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import SWEEP, Changed
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.decide import Decided, decide_round
from services.scheduler.policy.effects import after
from services.scheduler.policy.liveness import agent_of
from services.scheduler.policy.planning.usable_cluster import NodeMemo, usable_cluster
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import SmallCluster, a_model, a_request
from tests.unit.scheduler.values import summary

NUM_ROUNDS = 6
Draw = Callable[..., Any]  # as a strategy's own, or a test's
KINDS = (CauseKind.PROCESS_EXITED, CauseKind.LAUNCH_FAILED, CauseKind.NEIGHBOUR_STALLED)


@st.composite
def clusters(draw: st.DrawFn) -> SmallCluster:
    made = SmallCluster()
    for i in range(draw(st.integers(1, 4))):
        made.add_node(f"node-{i}", memory_bytes=draw(st.integers(200, 2000)))
    for i in range(draw(st.integers(1, 4))):
        model = a_model(
            f"model-{i}",
            max_pipeline_size=draw(st.integers(1, 3)),
            max_endpoints=draw(st.integers(1, 2)),
            max_slots=draw(st.integers(1, 3)),
            kv_cache_bytes=draw(st.integers(10, 500)),
            keep_alive_s=draw(st.sampled_from([0.0, 5.0, 60.0])),
        )
        made.add_model(model, summary())
    return made


def _event(draw: Draw, cluster: SmallCluster, index: int) -> None:
    """Something happens: a request comes, a node or worker changes, time passes."""
    what = draw(st.sampled_from(["request", "ready", "fail", "silence", "speak", "time", "end"]))
    workers = [w for e in cluster.endpoints.values() for w in e.workers]
    if what == "request":
        model_id = draw(st.sampled_from(sorted(cluster.models)))
        arrived = {"arrived_at_s": cluster.now_s, "deadline_at_s": cluster.now_s + 100.0}
        cluster.add_request(a_request(f"request-{index}", model_id, **arrived))
    elif what in ("ready", "fail") and workers:
        _change_worker(draw, cluster, draw(st.sampled_from(workers)), is_ready=what == "ready")
    elif what in ("silence", "speak"):
        node_id = draw(st.sampled_from(sorted(cluster.agents)))
        cluster.silence_s[agent_of(node_id)] = 20.0 if what == "silence" else 0.0
    elif what == "time":
        cluster.now_s += draw(st.sampled_from([0.5, 10.0, 70.0]))
    elif cluster.requests:
        del cluster.requests[draw(st.sampled_from(sorted(cluster.requests)))]


def _change_worker(draw: Draw, cluster: SmallCluster, worker: Worker, *, is_ready: bool) -> None:
    state = WorkerState.READY if is_ready else WorkerState.FAILED
    seen = WorkerObserved(
        worker_id=worker.id,
        endpoint_id=worker.endpoint_id,
        state=state,
        address="tcp://127.0.0.1:1",
        public_key="k" * 40,
        cause=None if is_ready else Cause(draw(st.sampled_from(KINDS))),
    )
    cluster.hear_worker(worker.node_id, seen)
    assert worker.fetch_id is not None
    done = FetchObserved(fetch_id=worker.fetch_id, state=FetchState.COMPLETE)
    cluster.hear_fetch(worker.node_id, done)


@settings(max_examples=100)
@given(st.data())
def test_no_decision_breaks_a_promise(data: st.DataObject) -> None:
    _check_rounds(data)


@pytest.mark.long
@settings(max_examples=400)
@given(st.data())
def test_no_decision_of_many_breaks_a_promise(data: st.DataObject) -> None:
    _check_rounds(data)


def _check_rounds(data: st.DataObject) -> None:
    cluster = data.draw(clusters())
    for index in range(NUM_ROUNDS):
        for number in range(data.draw(st.integers(1, 5))):
            _event(data.draw, cluster, 10 * index + number)
        snapshot = cluster.snapshot(nonce=f"round {index}")
        changed = data.draw(st.sampled_from([SWEEP, Changed(is_continued=True)]))
        decided = decide_round(snapshot, changed, NodeMemo())

        assert not [x for x in decided.decisions if isinstance(x, d.SkipModel | d.SkipNode)]
        _check_requests(snapshot, decided)
        _check_starts(snapshot, decided)
        _check_snapshot(decided.snapshot)
        assert after(snapshot, decided.decisions).endpoints == decided.snapshot.endpoints
        assert after(snapshot, decided.decisions).requests == decided.snapshot.requests
        _check_memo(snapshot, changed, decided)
        cluster.follow(decided.snapshot)


def _check_requests(snapshot: Snapshot, decided: Decided) -> None:
    """A request ends or is assigned once, and only where a slot is free."""
    moved = Counter(
        x.request_id for x in decided.decisions if isinstance(x, d.AssignRequest | d.EndRequest)
    )
    assert set(moved.values()) <= {1}
    assert moved.keys() <= set(snapshot.requests.rows)
    for endpoint in decided.snapshot.endpoints:
        before = snapshot.num_assigned(endpoint.id)
        now = decided.snapshot.num_assigned(endpoint.id)
        assert now <= max(before, endpoint.max_slots)


def _check_starts(snapshot: Snapshot, decided: Decided) -> None:
    """Only where nodes may be used, with every layer once, for a model that somebody waits for."""
    usable = {node.id for node in usable_cluster(snapshot).nodes}
    begun = [x for x in decided.decisions if isinstance(x, d.StartEndpoint)]
    assert len({x.endpoint_id for x in begun}) == len(begun)
    assert len({w.worker_id for x in begun for w in x.workers}) == sum(
        len(x.workers) for x in begun
    )
    for start in begun:
        assert {stage.node_id for stage in start.plan.stages} <= usable
        model = snapshot.models[start.model_id]
        assert len(start.plan.stages) <= model.max_pipeline_size
        assert decided.snapshot.demand(start.model_id).num_waiting > 0
        ids = {x for w in start.workers for x in (w.worker_id, w.fetch_id)}
        assert len(ids) == 2 * len(start.plan.stages)


def _check_snapshot(snapshot: Snapshot) -> None:
    for devices in snapshot.devices.values():
        for device in devices:
            assert _reserved(snapshot, device.node_id) <= device.memory_bytes
    for endpoint in snapshot.endpoints:
        _check_shape(snapshot, endpoint)
    for model_id, model in snapshot.models.items():
        live = [e for e in snapshot.endpoints.by("model", model_id) if e.state.can_take_requests]
        assert len(live) <= model.max_endpoints


def _reserved(snapshot: Snapshot, node_id: str) -> int:
    endpoints = snapshot.endpoints.by("node", node_id)
    workers = [w for endpoint in endpoints for w in endpoint.workers if w.node_id == node_id]
    return sum(worker.device_bytes for worker in workers)


def _check_shape(snapshot: Snapshot, endpoint: Endpoint) -> None:
    """One entry, every layer once; nothing is desired of what has ended."""
    roles = Counter(member.role for member in endpoint.members)
    assert roles[MemberRole.ENTRY] == 1
    layers = [
        layer
        for member in sorted(endpoint.members, key=lambda m: m.stage_index)
        for layer in range(member.first_layer, member.last_layer)
    ]
    assert layers == list(range(summary().num_layers))
    if endpoint.state.is_finished:
        assert endpoint.workers, "what has ended and holds nothing is forgotten"
        assert endpoint.is_released
    if endpoint.state.is_serving:
        assert endpoint.is_whole


def _check_memo(snapshot: Snapshot, changed: Changed, decided: Decided) -> None:
    """What was remembered of nodes only saves work."""
    memo = NodeMemo()
    memo.cluster(replace(snapshot, endpoints=decided.snapshot.endpoints))
    again = decide_round(snapshot, changed, memo)
    assert again.decisions == decided.decisions


def test_an_endpoint_that_is_decided_about_twice_is_not_ended_twice() -> None:
    cluster = SmallCluster()
    cluster.add_node("node-1")
    cluster.add_model(a_model("model-1"), summary())
    cluster.add_request(a_request("request-1", "model-1"))
    cluster.follow(decide_round(cluster.snapshot(), SWEEP, NodeMemo()).snapshot)
    cluster.silence_s[agent_of("node-1")] = 20.0

    first = decide_round(cluster.snapshot(), SWEEP, NodeMemo())
    cluster.follow(first.snapshot)
    second = decide_round(cluster.snapshot(nonce="next"), SWEEP, NodeMemo())

    assert [type(x).__name__ for x in first.decisions if isinstance(x, d.EndWorker)]
    assert not [x for x in second.decisions if isinstance(x, d.EndWorker | d.FailEndpoint)]
    assert all(e.state is not EndpointState.STARTING for e in second.snapshot.endpoints)
