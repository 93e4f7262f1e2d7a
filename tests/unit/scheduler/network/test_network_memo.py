"""The network from one snapshot to the next: the same as anew, and only what changed is made."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from libs.common.states import FetchState, WorkerState
from services.scheduler.policy.network.known_rates import KnownRates
from services.scheduler.policy.network.network import Network
from services.scheduler.policy.network.network_memo import NetworkMemo
from services.scheduler.policy.network.observed_flows import network_of
from services.scheduler.policy.nodes.cached_units import CachedUnits, holders_of
from services.scheduler.policy.observed import Heard
from services.scheduler.policy.prediction.quantities import MeasurementKey, Quantity
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.values import (
    DIGEST,
    NOW_S,
    device,
    endpoint,
    fetch,
    fetcher_heartbeat,
    snapshot,
    summary,
    unit_digest,
    worker,
)

IDS = [f"node-{i}" for i in range(8)]


@dataclass(frozen=True)
class Known:
    """All that the memo is asked with."""

    snapshot: Snapshot
    deadlines_s: Mapping[str, float]
    rates: KnownRates

    def of(self, memo: NetworkMemo) -> Network:
        return memo.network(self.snapshot, self.deadlines_s, self.rates)

    def anew(self) -> Network:
        return network_of(self.snapshot, self.deadlines_s, self.rates)

    def seen(self, **changes: Any) -> "Known":
        return replace(self, snapshot=self.snapshot.changed(**changes))


def fleet(num_nodes: int = len(IDS)) -> Known:
    places = [device(f"node-{i}", memory=1000) for i in range(num_nodes)]
    return Known(snapshot(devices=places), {}, KnownRates())


def hear(known: Known, node_id: str, **changes: Any) -> Known:
    observed = known.snapshot.observed
    heard = observed.fetchers.get(node_id)
    before = fetcher_heartbeat(node_id=node_id) if heard is None else heard.heartbeat
    beat = before.model_copy(update={"sequence": before.sequence + 1, **changes})
    fetchers = {**observed.fetchers, node_id: Heard(beat, NOW_S)}
    return known.seen(observed=replace(observed, fetchers=fetchers))


def fetch_there(known: Known, node_id: str, number: int) -> Known:
    state = (FetchState.QUEUED, FetchState.FETCHING, FetchState.COMPLETE)[number % 3]
    sizes = {} if state is FetchState.QUEUED else {"bytes_done": number, "bytes_total": 300}
    return hear(known, node_id, fetches=(fetch(state, fetch_id=f"fetch-{number % 9}", **sizes),))


def start_there(known: Known, node_id: str, number: int) -> Known:
    starting = worker(
        id=f"worker-{number}",
        endpoint_id=f"endpoint-{number % 5}",
        node_id=node_id,
        state=WorkerState.PLANNED if number % 4 else WorkerState.READY,
        fetch_id=f"fetch-{number % 9}",
        manifest_digest=DIGEST if number % 2 else "another",
        unit_digests=(unit_digest(1), unit_digest(2)),
    )
    new = endpoint(id=f"endpoint-{number % 5}", workers=(starting,))
    return known.seen(endpoints=known.snapshot.endpoints.updated({new.id: new}))


def end_one(known: Known, node_id: str, number: int) -> Known:
    endpoints = known.snapshot.endpoints.updated({f"endpoint-{number % 5}": None})
    return known.seen(endpoints=endpoints)


def set_deadline(known: Known, node_id: str, number: int) -> Known:
    deadlines_s = {**known.deadlines_s, f"endpoint-{number % 5}": NOW_S + number}
    if number % 3 == 0:
        del deadlines_s[f"endpoint-{number % 5}"]
    return replace(known, deadlines_s=deadlines_s)


def learn_manifest(known: Known, node_id: str, number: int) -> Known:
    return known.seen(
        summaries={DIGEST: summary(), **({"another": summary()} if number % 2 else {})}
    )


def cache(known: Known, node_id: str, number: int) -> Known:
    units = frozenset(map(unit_digest, range(4)))
    held = holders_of({DIGEST: units}, {unit_digest(number % 4): [node_id]})
    return known.seen(cached=CachedUnits().including(held))


def measure(known: Known, node_id: str, number: int) -> Known:
    """For so long that it is believed."""
    key = MeasurementKey(Quantity.NIC_BYTES_PER_S, node_id=node_id)
    figures = known.rates.figures.adding({key: [10.0 + number] * 8})
    return replace(known, rates=replace(known.rates, figures=figures))


def set_egress(known: Known, node_id: str, number: int) -> Known:
    egress = None if number % 3 == 0 else 100.0 * number
    return replace(known, rates=replace(known.rates, egress_bytes_per_s=egress))


def forget_node(known: Known, node_id: str, number: int) -> Known:
    kept = {id_: own for id_, own in known.snapshot.devices.items() if id_ != node_id}
    return known.seen(devices=kept)


def add_node(known: Known, node_id: str, number: int) -> Known:
    devices = {**known.snapshot.devices, node_id: (device(node_id, memory=number),)}
    return known.seen(devices=devices)


Step = Callable[[Known, str, int], Known]
STEPS: list[Step] = [
    lambda known, id_, n: hear(known, id_),
    lambda known, id_, n: hear(known, id_, nic_bytes_per_s=1000 * (n % 3)),
    fetch_there,
    fetch_there,
    start_there,
    start_there,
    end_one,
    set_deadline,
    learn_manifest,
    cache,
    measure,
    set_egress,
    forget_node,
    add_node,
    add_node,
]


def test_after_any_changes_the_network_is_the_same_as_anew() -> None:
    rng = random.Random(1)
    for _ in range(60):
        memo, known = NetworkMemo(), fleet()
        for number in range(60):
            for _ in range(rng.randint(0, 3)):
                known = rng.choice(STEPS)(known, rng.choice(IDS), number)

            network, expected = known.of(memo), known.anew()

            assert network.row_of == expected.row_of
            assert network.by_row == expected.by_row
            assert network.egress_bytes_per_s == expected.egress_bytes_per_s
            assert (network.nic_bytes_per_s == expected.nic_bytes_per_s).all()
            assert (network.num_interactive == expected.num_interactive).all()


def test_of_a_thousand_nodes_the_one_whose_flows_changed_is_made_anew() -> None:
    memo, before = NetworkMemo(), start_there(fleet(1000), "node-7", 1)
    first = before.of(memo)
    fetching = fetch(FetchState.FETCHING, fetch_id="fetch-1", bytes_total=300)
    after = hear(before, "node-7", fetches=(fetching,))
    made = memo.num_made

    second = after.of(memo)

    assert memo.num_made == made + 1
    row = second.row_of["node-7"]
    kept = zip(first.by_row, second.by_row, strict=True)
    assert [i for i, (old, new) in enumerate(kept) if old is not new] == [row]
    assert first.one_more.rates_bytes_per_s[row] == second.one_more.rates_bytes_per_s[row] == 500


def test_heartbeats_that_say_the_same_again_change_nothing() -> None:
    memo, known = NetworkMemo(), fleet(100)
    network, made = known.of(memo), memo.num_made
    for node_id in known.snapshot.devices:
        known = hear(known, node_id)

    assert known.of(memo) is network
    assert memo.num_made == made


def test_a_node_of_which_no_sense_can_be_made_is_left_out_until_it_can() -> None:
    memo, known = NetworkMemo(), fleet()
    broken = hear(known, "node-3", fetches=None)

    assert broken.of(memo).get("node-3") is None
    assert list(memo.broken) == ["node-3"]
    assert hear(broken, "node-3", fetches=()).of(memo).get("node-3") is not None
    assert memo.broken == {}
