"""Which endpoints a model keeps, whoever asks."""

from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.planning.idle_endpoints import NumTaken
from services.scheduler.policy.scaling.kept import is_pinned
from services.scheduler.policy.snapshot import Snapshot
from tests.unit.scheduler.snapshots import SmallCluster, a_model
from tests.unit.scheduler.values import endpoint

STARTING, SERVING = EndpointState.STARTING, EndpointState.STANDALONE


def pinned(min_endpoints: int, *states: EndpointState) -> list[bool]:
    snapshot, live = with_endpoints(min_endpoints, *states)
    return [is_pinned(snapshot, one, snapshot.models["model-1"]) for one in live]


def with_endpoints(min_endpoints: int, *states: EndpointState) -> tuple[Snapshot, list[Endpoint]]:
    made = SmallCluster()
    made.models["model-1"] = a_model("model-1", min_endpoints=min_endpoints, max_endpoints=4)
    live = [endpoint(id=f"e-{i}", state=state) for i, state in enumerate(states)]
    made.endpoints = {one.id: one for one in live}
    return made.snapshot(), live


def test_one_that_serves_is_pinned_until_another_one_is_ready() -> None:
    assert pinned(1, SERVING, STARTING) == [True, False]
    assert pinned(1, SERVING, SERVING) == [False, False]


def test_one_that_starts_is_pinned_where_those_that_serve_are_too_few() -> None:
    assert pinned(2, SERVING, STARTING) == [True, True]
    assert pinned(1, STARTING) == [True]
    assert pinned(0, SERVING) == [False]


def taken(min_endpoints: int, *states: EndpointState) -> list[bool]:
    snapshot, live = with_endpoints(min_endpoints, *states)
    room = NumTaken(snapshot)
    return [room.take(one) for one in live]


def test_of_several_that_are_asked_to_go_together_so_many_stay_as_are_pinned() -> None:
    assert taken(1, SERVING, SERVING, SERVING) == [True, True, False]
    assert taken(2, SERVING, SERVING, SERVING) == [True, False, False]
    assert taken(0, SERVING, SERVING) == [True, True]
    # The one that starts is beside the one that serves and stays.
    assert taken(1, SERVING, SERVING, STARTING) == [True, False, True]
    assert taken(2, SERVING, STARTING, STARTING) == [False, True, False]
