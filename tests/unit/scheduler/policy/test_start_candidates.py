"""What was found out of a model's place in the queue is asked again only where it may differ."""

import random
from dataclasses import dataclass, field, fields

import pytest

from services.scheduler.policy.changes import Changed
from services.scheduler.policy.cluster import Demand, EndpointFailure
from services.scheduler.policy.decide import decide_round
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.liveness import Liveness, gateway_of
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.planning.start_order import StartPlaces
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.rules.start_candidates import in_start_order
from services.scheduler.policy.snapshot import ORPHAN_S, Snapshot
from services.scheduler.policy.tables.snapshot_tables import failure_table
from tests.unit.scheduler.policy.histories import History
from tests.unit.scheduler.values import NOW_S, model, open_request, snapshot

NUM_ROUNDS = 120
CONTINUED = Changed(is_continued=True)


@pytest.mark.parametrize("seed", range(12))
def test_decisions_are_those_of_a_leader_that_asks_anew_of_every_model(seed: int) -> None:
    history, memo = History(random.Random(seed)), NodeMemo()
    num_decisions = 0
    for number in range(NUM_ROUNDS):
        before, changed = history.next_round(number, is_sweep=number % 2 == 0)

        decided = decide_round(before, changed, memo)
        plain = decide_round(before.changed(places=StartPlaces()), changed, NodeMemo())

        assert decided.decisions == plain.decisions
        assert decided.snapshot.queue == plain.snapshot.queue
        num_decisions += len(decided.decisions)
        history.snapshot = decided.snapshot
    assert num_decisions > NUM_ROUNDS / 2, "something went on"


@dataclass(frozen=True)
class CountingSnapshot(Snapshot):
    """Notes of which models the demand is asked."""

    asked: list[str] = field(default_factory=list)

    def demand(self, model_id: str) -> Demand:
        self.asked.append(model_id)
        return super().demand(model_id)


def counting(before: Snapshot) -> CountingSnapshot:
    return CountingSnapshot(**{each.name: getattr(before, each.name) for each in fields(before)})


def waiting_models(num: int) -> Snapshot:
    """No node is there to start any of them, and a round plans for one."""
    return snapshot(
        limits=Limits(planning_budget_devices=1),
        models=[model(id=f"model-{i}") for i in range(num)],
        requests=[open_request(id=f"request-{i}", model_id=f"model-{i}") for i in range(num)],
    )


def test_of_many_models_that_wait_only_those_that_changed_are_asked_again() -> None:
    first = decide_round(waiting_models(500), CONTINUED, NodeMemo()).snapshot
    more = {"request-x": open_request(id="request-x", model_id="model-7")}

    later = counting(first.changed(requests=first.requests.updated(more), now_s=NOW_S + 1))
    decided = decide_round(later, CONTINUED, NodeMemo())

    assert len(decided.snapshot.queue.order) == 500
    assert set(later.asked) - decided.snapshot.queue.reached == {"model-7"}
    assert len(later.asked) < 10


BACKS_OFF = model(backoff_until_s=NOW_S + 5.0, num_failed_starts=3)
FAILED = EndpointFailure("endpoint-x", "model-1", NOW_S - ORPHAN_S + 5.0, "gone", frozenset())
ORPHAN = open_request(endpoint_id="endpoint-x")


@pytest.mark.parametrize(
    ("before", "is_asked_for", "why"),
    [
        (
            snapshot(models=[BACKS_OFF], requests=[open_request()]),
            (False, True),
            "its back-off is over",
        ),
        (
            snapshot(requests=[ORPHAN], failures=failure_table({"endpoint-x": FAILED})),
            (True, False),
            "nobody has come again for what was lost with an endpoint",
        ),
    ],
)
def test_time_alone_changes_a_place(
    before: Snapshot, is_asked_for: tuple[bool, bool], why: str
) -> None:
    found = []
    for seconds in (0.0, 6.0):
        builder = DecisionBuilder(before.changed(now_s=NOW_S + seconds))
        found.append(bool(in_start_order(builder, ["model-1"])))
        before = builder.snapshot

    assert tuple(found) == is_asked_for, why


def test_a_gateway_that_is_lost_takes_its_requests_with_it() -> None:
    builder = DecisionBuilder(snapshot(requests=[open_request()]))
    assert in_start_order(builder, ["model-1"])

    silent = Observed(Liveness(1000.0, {gateway_of("gateway-1"): 0.0}))
    later = DecisionBuilder(builder.snapshot.changed(observed=silent))
    assert not in_start_order(later, ["model-1"])
