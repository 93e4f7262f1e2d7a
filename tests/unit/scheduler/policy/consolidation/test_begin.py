"""When a sweep lets a pipeline become one worker, or more than one, and when not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.bus.messages import FetchObserved
from libs.common.states import (
    ConsolidationPhase,
    EndpointState,
    FetchState,
    ModelState,
    StartPurpose,
    WorkerState,
)
from services.scheduler.policy.consolidation.consolidation import (
    MAX_TRIES,
    ConsolidationTries,
)
from services.scheduler.policy.consolidation.decisions import BeginConsolidation
from services.scheduler.policy.effects import after
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.network.forecast import forecast
from services.scheduler.policy.network.observed_flows import network_of
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.policy.consolidation.pipelines import (
    FILES_BYTES,
    UNITS,
    begun,
    pipeline,
    says,
    seen,
    snapshot_of,
    stage,
    with_caches,
    with_open,
)
from tests.unit.scheduler.values import (
    NOW_S,
    endpoint,
    fetch,
    model,
    worker,
)

SERVES = pipeline()
ENTRY = SERVES.workers[0]
# Somebody waits for 1,000 bytes on the entry's node, a second's worth.
STARTING = endpoint(
    id="endpoint-2",
    state=EndpointState.STARTING,
    purpose=StartPurpose.REQUEST,
    workers=(
        worker(id="worker-9", node_id="node-0", fetch_id="start-9", endpoint_id="endpoint-2"),
    ),
)
START = fetch(FetchState.FETCHING, fetch_id="start-9", bytes_done=0, bytes_total=1_000)


def beside_a_start(deadline_s: float | None) -> Snapshot:
    starting = replace(
        STARTING, workers=(replace(STARTING.workers[0], state=WorkerState.LAUNCHING),)
    )
    deadlines = {} if deadline_s is None else {"endpoint-2": NOW_S + deadline_s}
    return snapshot_of(
        SERVES,
        endpoints=(SERVES, starting),
        fetches={"node-0": (START,)},
        fetch_deadlines_s=deadlines,
    )


def test_one_that_serves_begins_with_what_its_entry_lacks() -> None:
    (decision,) = begun(snapshot_of(SERVES))
    assert isinstance(decision, BeginConsolidation)
    assert (decision.worker_id, decision.generation) == ("worker-0", 2)
    assert decision.unit_digests == UNITS[2:4]
    assert (decision.load_bytes, decision.freed_bytes, decision.kv_bytes) == (600, 800, 40)
    assert decision.expected_s == pytest.approx(0.7)
    assert decision.timeout_s == 60.0
    assert not decision.is_scale_up


def observed_without_fetchers(there: Snapshot) -> Snapshot:
    return replace(there, observed=replace(there.observed, fetchers={}))


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (snapshot_of(SERVES, limits=Limits()), "the settings say so"),
        (snapshot_of(pipeline(state=EndpointState.STARTING)), "it does not serve yet"),
        (snapshot_of(pipeline(state=EndpointState.DRAINING)), "it takes no more"),
        (snapshot_of(pipeline(num_full=0)), "its entry has no memory for the whole"),
        (snapshot_of(with_open(SERVES)), "it is under way"),
        (snapshot_of(SERVES, models=(model(state=ModelState.DELETING),)), "its model goes"),
        (snapshot_of(SERVES, summaries={}), "its manifest is not known yet"),
        (snapshot_of(replace(SERVES, workers=SERVES.workers[:2])), "a member is gone"),
        (
            snapshot_of(SERVES, [seen(SERVES.workers[2], WorkerState.DRAINING)]),
            "a member is not ready",
        ),
        (
            snapshot_of(SERVES, [seen(ENTRY, consolidation=says(ConsolidationPhase.ABANDONED))]),
            "its entry still tells of an earlier try",
        ),
        (
            snapshot_of(pipeline(consolidation_tries=ConsolidationTries(1, NOW_S - 4.9))),
            "the last try was a moment ago",
        ),
        (
            snapshot_of(pipeline(consolidation_tries=ConsolidationTries(MAX_TRIES, 0.0))),
            "too many came to nothing",
        ),
        (
            snapshot_of(
                pipeline(workers=(stage(0, is_full=True, device_bytes=1_099), *SERVES.workers[1:]))
            ),
            "its reservation has no room for all layers and its KV slots",
        ),
        (with_caches(snapshot_of(SERVES), FILES_BYTES - 1), "the host cache has no room"),
        (observed_without_fetchers(snapshot_of(SERVES)), "its node's fetcher is silent"),
        (beside_a_start(None), "somebody's fetch there is late already"),
        (beside_a_start(1.9), "somebody's fetch there has less than a second to spare"),
        (snapshot_of(pipeline(idle_since_s=NOW_S - 59.5)), "it would be gone before"),
        (snapshot_of(SERVES, models=(model(keep_alive_s=0.9),)), "it does not pay"),
    ],
)
def test_none_begins_where(there: Snapshot, reason: str) -> None:
    assert begun(there) == [], reason


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (snapshot_of(pipeline(consolidation_tries=ConsolidationTries(1, NOW_S - 5.0))), "again"),
        (with_caches(snapshot_of(SERVES), FILES_BYTES), "its host cache has just the room"),
        (beside_a_start(2.1), "somebody's fetch there has a second to spare"),
        (snapshot_of(pipeline(idle_since_s=NOW_S - 50.0)), "it stays for ten seconds"),
    ],
)
def test_one_begins_where(there: Snapshot, reason: str) -> None:
    assert [type(decision) for decision in begun(there)] == [BeginConsolidation], reason


def test_also_where_it_does_not_pay_one_begins_for_the_time_per_token() -> None:
    """A second at the least: it frees 800 x 0.3 for 0.1 x 600 + 0.1 x 1,900 x 0.7 = 193 bytes x s.
    With 0.8 s it does not pay. A hop to each of two stages takes 1 ms, of a target of 1 ms."""
    own = {"keep_alive_s": 0.8, "slo_tpot_s": 0.001}
    (decision,) = begun(snapshot_of(SERVES, models=(model(**own),)))
    assert isinstance(decision, BeginConsolidation)
    assert decision.why == "a token takes 2 ms, and one worker would take 0 ms, of 1 ms"


STARTS = st.lists(st.tuples(st.integers(1, 5_000), st.floats(0.0, 30.0)), max_size=4)


@given(STARTS)
def test_no_fetch_that_somebody_waits_for_is_later_for_it(starts: list[tuple[int, float]]) -> None:
    """Each has so many bytes to come on the entry's node, and a deadline."""
    endpoints, fetches, deadlines = [SERVES], [], {}
    for number, (num_bytes, deadline_s) in enumerate(starts):
        id_ = f"start-of-{number}"
        own = worker(
            id=id_, node_id="node-0", endpoint_id=id_, fetch_id=id_, state=WorkerState.LAUNCHING
        )
        endpoints.append(endpoint(id=id_, state=EndpointState.STARTING, workers=(own,)))
        fetches.append(fetch(FetchState.FETCHING, fetch_id=id_, bytes_total=num_bytes))
        deadlines[id_] = NOW_S + deadline_s
    there = snapshot_of(
        SERVES,
        endpoints=endpoints,
        fetches={"node-0": tuple(fetches)},
        fetch_deadlines_s=deadlines,
    )

    decisions = begun(there)

    before, then = ends_of(there, fetches), ends_of(after(there, decisions), fetches)
    assert then == pytest.approx(before)
    if decisions:
        assert all(NOW_S + end_s <= deadlines[id_] for id_, end_s in before.items())


def ends_of(there: Snapshot, fetches: list[FetchObserved]) -> dict[str, float]:
    nodes = network_of(there, there.fetch_deadlines_s).by_row
    ends_s = forecast([node for node in nodes if node is not None], None)
    return {fetch_.fetch_id: ends_s[fetch_.fetch_id] for fetch_ in fetches}
