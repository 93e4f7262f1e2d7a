"""The planner's view of the nodes: brought up to date by what changed, and the same as anew."""

import random
from collections.abc import Callable
from dataclasses import replace

from libs.common.bus.messages import ModelSummary
from libs.common.states import FetchState, WorkerState
from services.scheduler.policy.cluster import NodeRecord
from services.scheduler.policy.liveness import Liveness, agent_of
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import (
    DIGEST,
    NOW_S,
    agent_heartbeat,
    device,
    endpoint,
    fetch,
    fetcher_heartbeat,
    observed,
    snapshot,
    summary,
    unit_digest,
    worker,
)

NUM_NODES = 12
IDS = [f"node-{i}" for i in range(NUM_NODES)]


def fleet(num_nodes: int = NUM_NODES, devices_each: int = 2) -> Snapshot:
    places = [
        device(f"node-{i}", memory=1000, index=index)
        for i in range(num_nodes)
        for index in range(devices_each)
    ]
    return snapshot(devices=places)


def hear_agent(before: Snapshot, node_id: str, **changes: object) -> Snapshot:
    beat = agent_heartbeat("boot-a", 2, node_id=node_id).model_copy(update=changes)
    agents = {**before.observed.agents, node_id: Heard(beat, NOW_S)}
    return before.changed(observed=replace(before.observed, agents=agents))


def hear_fetcher(before: Snapshot, node_id: str, **changes: object) -> Snapshot:
    beat = fetcher_heartbeat(node_id=node_id, sequence=2).model_copy(update=changes)
    fetchers = {**before.observed.fetchers, node_id: Heard(beat, NOW_S)}
    return before.changed(observed=replace(before.observed, fetchers=fetchers))


def silence(before: Snapshot, node_id: str, for_s: float) -> Snapshot:
    liveness = before.observed.liveness
    heard_s = {**liveness.heard_s, agent_of(node_id): liveness.elapsed_s - for_s}
    quiet = Liveness(liveness.elapsed_s, heard_s)
    return before.changed(observed=replace(before.observed, liveness=quiet))


def start_there(before: Snapshot, node_id: str, number: int) -> Snapshot:
    """A worker whose manifest is not known yet, of an endpoint of its own."""
    name = f"endpoint-{number % 7}"
    digest = f"manifest-{number % 3}"
    starting = worker(
        id=f"worker-{number}",
        endpoint_id=name,
        node_id=node_id,
        device_bytes=10,
        state=WorkerState.PLANNED,
        fetch_id=f"fetch-{number}",
        manifest_digest=digest,
        unit_digests=(unit_digest(1),),
    )
    return before.changed(
        endpoints=before.endpoints.updated({name: endpoint(id=name, workers=(starting,))})
    )


def end_one(before: Snapshot, node_id: str, number: int) -> Snapshot:
    return before.changed(endpoints=before.endpoints.updated({f"endpoint-{number % 7}": None}))


def learn(before: Snapshot, node_id: str, number: int) -> Snapshot:
    known: dict[str, ModelSummary] = {**before.summaries, f"manifest-{number % 3}": summary()}
    return before.changed(summaries=known)


def forget_node(before: Snapshot, node_id: str, number: int) -> Snapshot:
    kept = {id_: own for id_, own in before.devices.items() if id_ != node_id}
    return before.changed(devices=kept)


def add_devices(before: Snapshot, node_id: str, number: int) -> Snapshot:
    own = tuple(device(node_id, memory=500 + number, index=i) for i in range(number % 4))
    return before.changed(devices={**before.devices, node_id: own})


def reboot(before: Snapshot, node_id: str, number: int) -> Snapshot:
    record = NodeRecord(node_id, 1, f"boot-{'ab'[number % 2]}")
    return before.changed(nodes={**before.nodes, node_id: record})


Step = Callable[[Snapshot, str, int], Snapshot]
RUNNING = (observed(WorkerState.READY, worker_id="unknown"),)
FETCHING = (fetch(FetchState.FETCHING, fetch_id="some"),)
STEPS: list[Step] = [
    lambda s, id_, n: hear_agent(s, id_, num_standbys=n % 3),
    lambda s, id_, n: hear_agent(s, id_, boot_id=f"boot-{'ab'[n % 2]}"),
    lambda s, id_, n: hear_agent(s, id_, workers=RUNNING if n % 2 else ()),
    lambda s, id_, n: hear_fetcher(s, id_, cache_capacity_bytes=n),
    lambda s, id_, n: hear_fetcher(s, id_, fetches=FETCHING if n % 2 else ()),
    lambda s, id_, n: hear_fetcher(s, id_, nic_bytes_per_s=n),
    lambda s, id_, n: hear_fetcher(s, id_, fetches=None if n % 2 else ()),
    lambda s, id_, n: silence(s, id_, float(n % 14)),
    start_there,
    start_there,
    end_one,
    learn,
    forget_node,
    add_devices,
    reboot,
]


def test_after_any_changes_the_cluster_is_the_same_as_anew() -> None:
    rng = random.Random(1)
    for _ in range(60):
        memo, now = NodeMemo(), fleet()
        for number in range(60):
            for _ in range(rng.randint(0, 3)):
                now = rng.choice(STEPS)(now, rng.choice(IDS), number)
            anew = NodeMemo()

            cluster, expected = memo.cluster(now), anew.cluster(now)

            assert cluster.nodes == expected.nodes
            assert memo.broken == anew.broken
            assert (cluster.room_bytes == expected.room_bytes).all()


def test_of_a_thousand_nodes_the_one_that_says_something_new_is_made_anew() -> None:
    memo, before = NodeMemo(), fleet(1000, 8)
    memo.cluster(before)
    made = memo.num_made

    after = hear_agent(before, "node-7", num_standbys=1)
    cluster = memo.cluster(after)

    assert memo.num_made == made + 1
    assert cluster.get("node-7") == NodeMemo().cluster(after).get("node-7")


def test_heartbeats_that_say_the_same_again_change_nothing() -> None:
    memo, before = NodeMemo(), fleet(100)
    cluster = memo.cluster(before)
    made, after = memo.num_made, before
    for id_ in before.devices:
        after = hear_fetcher(hear_agent(after, id_), id_)

    assert memo.cluster(after) is cluster
    assert memo.num_made == made


def test_what_a_worker_keeps_is_known_once_its_manifest_is() -> None:
    memo = NodeMemo()
    unknown = start_there(fleet(), "node-0", 0)
    assert memo.cluster(unknown).nodes[0].held_bytes == 0

    known = unknown.changed(
        summaries={**unknown.summaries, "manifest-0": unknown.summaries[DIGEST]}
    )

    assert memo.cluster(known).nodes[0].held_bytes > 0


def test_nobody_who_is_silent_is_planned_for_and_who_speaks_again_is() -> None:
    memo, before = NodeMemo(), fleet()
    limits = before.limits

    for silent_s in (limits.node_stale_s + 0.1, limits.node_lost_s + 1):
        ids = {node.id for node in memo.cluster(silence(before, "node-3", silent_s)).nodes}
        assert ids == {*IDS} - {"node-3"}
    assert len(memo.cluster(silence(before, "node-3", limits.node_stale_s)).nodes) == NUM_NODES


def test_a_snapshot_in_which_nobody_was_heard_has_no_nodes() -> None:
    assert NodeMemo().cluster(fleet().changed(observed=Observed())).nodes == ()
