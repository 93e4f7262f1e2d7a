"""What the end of an idle endpoint would cost."""

import pytest

from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of
from services.scheduler.policy.scaling.occupants import loss_of, occupant_of, restart_of
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import NOW_S, SmallCluster, a_model
from tests.unit.scheduler.values import endpoint, summary


def started_ahead(asked_before_s: float | None) -> tuple[Snapshot, Endpoint]:
    """Asked every ten minutes; its endpoint has been there for 5 s of the 305 s that it is kept."""
    made = SmallCluster()
    made.add_node("node-1")
    made.add_model(a_model("model-1", keep_alive_s=305.0), summary())
    ahead = endpoint(
        state=EndpointState.STANDALONE, idle_since_s=NOW_S - 5.0, ready_since_s=NOW_S - 5.0
    )
    made.endpoints[ahead.id] = ahead
    since_s = None if asked_before_s is None else NOW_S - asked_before_s
    activity = ModelActivity(history_of([600.0] * 40), idle_since_s=since_s)
    return made.snapshot(activities={"model-1": activity}), ahead


def test_what_has_just_started_ahead_is_weighed_by_how_long_its_model_was_not_asked() -> None:
    """40 gaps of 600 s weigh 17.4; with the prior's one, 17.6 of 18.4 end in the bin from 512 s to
    609 s. That is 94 % for who waits since 560 s until 860 s; after 5 s nearly all are to come."""
    snapshot, ahead = started_ahead(asked_before_s=560.0)

    assert loss_of(snapshot, ahead) / restart_of(snapshot, ahead) == pytest.approx(0.94, abs=0.02)
    assert occupant_of(snapshot, ahead).gap_s == 560.0
    assert occupant_of(snapshot, ahead).idle_s == 5.0


def test_where_nobody_knows_when_its_model_was_asked_its_own_idle_time_counts() -> None:
    snapshot, alone = started_ahead(asked_before_s=None)

    assert loss_of(snapshot, alone) / restart_of(snapshot, alone) < 0.2
    assert occupant_of(snapshot, alone).gap_s is None
