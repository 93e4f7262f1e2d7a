"""The cluster as if it were empty: as anew each time, and only what changed is made."""

from dataclasses import replace

import pytest

from libs.common.bus.messages import FetcherHeartbeat
from services.scheduler.policy.cluster import Device
from services.scheduler.policy.liveness import agent_of
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.nodes.node_values import base_node
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.planning.idle_nodes import MEMORY_OF_NODES_S, IdleNodes
from tests.unit.scheduler.values import agent_heartbeat, device, fetcher_heartbeat, heard_now

NODES = tuple(f"node-{i}" for i in range(50))


def offered(memory: int = 100) -> dict[str, tuple[Device, ...]]:
    return {id_: (device(id_, memory=memory),) for id_ in NODES}


def said(**changes: object) -> dict[str, FetcherHeartbeat]:
    return {id_: fetcher_heartbeat(node_id=id_, **changes) for id_ in NODES}


def observed_of(fetchers: dict[str, FetcherHeartbeat]) -> Observed:
    agents = [agent_heartbeat("boot-a", 1, node_id=id_) for id_ in NODES]
    return heard_now(agents, fetchers.values())


def made_anew(observed: Observed, devices: dict[str, tuple[Device, ...]]) -> tuple[Node, ...]:
    return tuple(
        replace(base_node(observed, id_, devices[id_]), num_fetches=0) for id_ in sorted(devices)
    )


def test_of_nodes_that_say_the_same_again_none_is_made_anew() -> None:
    idle, devices = IdleNodes(), offered()
    idle.cluster(observed_of(said()), devices)
    again = {**said(sequence=2), "node-7": fetcher_heartbeat(node_id="node-7", nic_bytes_per_s=5)}

    cluster = idle.cluster(observed_of(again), devices)

    assert cluster.nodes == made_anew(observed_of(again), devices)
    assert idle.num_made == len(NODES) + 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cache_capacity_bytes": 7}, "its host cache has less room"),
        ({"nic_bytes_per_s": 7}, "its cap is another one"),
    ],
)
def test_what_a_node_says_anew_counts(change: dict[str, int], why: str) -> None:
    idle, devices = IdleNodes(), offered()
    idle.cluster(observed_of(said()), devices)

    cluster = idle.cluster(observed_of(said(**change)), devices)

    assert cluster.nodes == made_anew(observed_of(said(**change)), devices), why


def test_devices_that_changed_count() -> None:
    idle, observed = IdleNodes(), observed_of(said())
    idle.cluster(observed, offered())
    larger = offered(memory=7)

    assert idle.cluster(observed, larger).nodes == made_anew(observed, larger)


def test_a_node_that_is_gone_or_silent_for_long_is_left_out() -> None:
    idle, observed = IdleNodes(), observed_of(said())
    idle.cluster(observed, offered())
    rest = {id_: own for id_, own in offered().items() if id_ != "node-3"}
    long_ago_s = observed.liveness.elapsed_s - MEMORY_OF_NODES_S
    heard_s = {**observed.liveness.heard_s, agent_of("node-4"): long_ago_s}
    silent = replace(observed, liveness=replace(observed.liveness, heard_s=heard_s))

    found = {node.id for node in idle.cluster(silent, rest).nodes}

    assert found == set(NODES) - {"node-3", "node-4"}
