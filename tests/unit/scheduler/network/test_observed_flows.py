"""Flows of a node, from what its fetcher says and what the rows say."""

from dataclasses import replace
from typing import Any

import pytest

from libs.common.bus.messages import FetchObserved
from libs.common.states import FetchClass, FetchState, WorkerState
from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.network.flow import Flow
from services.scheduler.policy.network.known_rates import KnownRates
from services.scheduler.policy.network.node_flows import NodeFlows
from services.scheduler.policy.network.observed_flows import network_of, node_flows
from services.scheduler.policy.nodes.cached_units import CachedUnits, holders_of
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import (
    DIGEST,
    NOW_S,
    device,
    endpoint,
    fetch,
    snapshot,
    unit_digest,
    worker,
)

DUE_S = NOW_S + 20
STARTING: dict[str, Any] = {
    "state": WorkerState.PLANNED,
    "device_bytes": 5000,
    "fetch_id": "fetch-1",
    "manifest_digest": DIGEST,
    "unit_digests": (unit_digest(0), unit_digest(1)),  # 100 + 200 bytes
}


def some_snapshot(*fetches: FetchObserved, start: Worker | None = None, **more: Any) -> Snapshot:
    workers = (start or worker(**STARTING),)
    return snapshot(
        devices=[device("node-1", memory=10_000)],
        fetches={"node-1": fetches},
        endpoints=[endpoint(workers=workers)],
        **more,
    )


def flows_of(some: Snapshot) -> tuple[Flow, ...]:
    found = node_flows(some, "node-1", {"endpoint-1": DUE_S}, KnownRates())
    assert found is not None
    return found.flows


def interactive(left_bytes: int, deadline_s: float | None = DUE_S) -> Flow:
    return Flow("fetch-1", "node-1", FetchClass.INTERACTIVE, left_bytes, deadline_s)


def fetching(done: int = 0, total: int = 300, **more: Any) -> FetchObserved:
    values = {"fetch_id": "fetch-1", "bytes_done": done, "bytes_total": total, **more}
    return fetch(FetchState.FETCHING, **values)


def test_a_reported_fetch_has_left_what_its_fetcher_says() -> None:
    assert flows_of(some_snapshot(fetching(120))) == (interactive(180),)


def test_a_start_that_was_not_reported_yet_counts_with_all_that_its_node_lacks() -> None:
    holders = holders_of(
        {DIGEST: frozenset(map(unit_digest, range(4)))}, {unit_digest(1): ["node-1"]}
    )
    cached = CachedUnits().including(holders)

    assert flows_of(some_snapshot()) == (interactive(300),)
    assert flows_of(some_snapshot(cached=cached)) == (interactive(100),)


def test_a_fetch_that_waits_for_room_has_no_size_of_its_own_yet() -> None:
    queued = fetch(FetchState.QUEUED, fetch_id="fetch-1")

    assert flows_of(some_snapshot(queued)) == (interactive(300),)


def test_without_its_manifest_a_start_counts_with_all_that_it_may_hold() -> None:
    assert flows_of(some_snapshot(summaries={})) == (interactive(5000),)


@pytest.mark.parametrize("state", [FetchState.COMPLETE, FetchState.FAILED])
def test_what_has_ended_is_no_flow(state: FetchState) -> None:
    ended = fetch(state, fetch_id="fetch-1", bytes_done=10, bytes_total=300)

    assert flows_of(some_snapshot(ended)) == ()


def test_what_has_all_its_bytes_is_no_flow() -> None:
    assert flows_of(some_snapshot(fetching(300))) == ()


@pytest.mark.parametrize(
    "changes",
    [{"is_desired": False}, {"state": WorkerState.READY}],
    ids=["given up", "ready"],
)
def test_a_start_that_waits_no_longer_has_no_deadline_and_counts_while_it_runs(
    changes: dict[str, Any],
) -> None:
    start = worker(**{**STARTING, **changes})

    assert flows_of(some_snapshot(fetching(120), start=start)) == (interactive(180, None),)
    assert flows_of(some_snapshot(start=start)) == ()


def test_fetches_that_no_start_waits_for_are_of_the_background() -> None:
    other = fetching(50, fetch_id="fetch-2")

    assert flows_of(some_snapshot(fetching(120), other)) == (
        interactive(180),
        Flow("fetch-2", "node-1", FetchClass.BACKGROUND, 250),
    )


def test_each_stage_counts_on_its_own_node() -> None:
    second = worker(**{**STARTING, "id": "worker-2", "node_id": "node-2", "fetch_id": "fetch-2"})
    some = snapshot(
        fetches={"node-1": (fetching(120),), "node-2": ()},
        endpoints=[endpoint(workers=(worker(**STARTING), second))],
    )

    assert flows_of(some) == (interactive(180),)


def test_a_start_without_a_known_deadline_has_none() -> None:
    found = node_flows(some_snapshot(), "node-1", {}, KnownRates())

    assert found is not None
    assert found.flows == (interactive(300, None),)


def test_the_network_has_a_row_for_each_node_and_knows_those_that_were_heard() -> None:
    places = [device("node-1", memory=10_000), device("node-0", memory=10_000)]
    some = snapshot(devices=places, fetches={"node-1": (fetching(100),)})
    heard = {id_: said for id_, said in some.observed.fetchers.items() if id_ != "node-0"}
    some = some.changed(observed=replace(some.observed, fetchers=heard))

    network = network_of(some, {}, KnownRates(egress_bytes_per_s=5000.0))

    assert list(network.row_of) == ["node-0", "node-1"]
    assert network.get("node-0") is None
    assert network.get("node-1") == NodeFlows(
        1000.0, (Flow("fetch-1", "node-1", FetchClass.BACKGROUND, 200),)
    )
    assert network.egress_bytes_per_s == 5000.0
