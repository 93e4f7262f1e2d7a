"""The cluster as the planner may use it: only nodes that were heard lately and hold no strays."""

from libs.common.states import FetchState
from services.scheduler.cluster import Cluster, Device, Endpoint, Node
from services.scheduler.round import Round


def usable_cluster(
    round_: Round, devices: tuple[Device, ...], fleet: tuple[Endpoint, ...]
) -> Cluster:
    known = {worker.id for endpoint in fleet for worker in endpoint.workers}
    node_ids = sorted({device.node_id for device in devices})
    return Cluster(
        tuple(
            _node(round_, node_id, devices)
            for node_id in node_ids
            if _is_usable(round_, node_id, known)
        )
    )


def _is_usable(round_: Round, node_id: str, known_workers: set[str]) -> bool:
    observed, stale_s = round_.observed, round_.timing.node_stale_s
    report = round_.report_of(node_id)
    agent = observed.agents.of(node_id)
    is_fresh = observed.agents.is_fresh(node_id, round_.now_s, stale_s) and (
        observed.fetchers.is_fresh(node_id, round_.now_s, stale_s)
    )
    if agent is None or not is_fresh or report.is_lost or report.has_rebooted:
        return False
    # Workers that count as dead but still run there use memory that no reservation shows.
    strays = [w for w in agent.heartbeat.workers if not w.state.is_finished]
    return all(worker.worker_id in known_workers for worker in strays)


def _node(round_: Round, node_id: str, devices: tuple[Device, ...]) -> Node:
    heard = round_.observed.fetchers.of(node_id)
    assert heard is not None, "a usable node's fetcher was heard"
    heartbeat = heard.heartbeat
    is_running = (FetchState.QUEUED, FetchState.FETCHING)
    return Node(
        id=node_id,
        devices=tuple(device for device in devices if device.node_id == node_id),
        nic_bytes_per_s=heartbeat.nic_bytes_per_s,
        num_fetches=sum(fetch.state in is_running for fetch in heartbeat.fetches),
        cached_units=frozenset(heartbeat.cached_units),
    )
