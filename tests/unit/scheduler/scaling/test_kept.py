"""Which endpoints a model keeps, whoever asks."""

from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.scaling.kept import is_pinned
from tests.unit.scheduler.snapshots import SmallCluster, a_model
from tests.unit.scheduler.values import endpoint

STARTING, SERVING = EndpointState.STARTING, EndpointState.STANDALONE


def pinned(min_endpoints: int, *states: EndpointState) -> list[bool]:
    made = SmallCluster()
    model = made.models["model-1"] = a_model(
        "model-1", min_endpoints=min_endpoints, max_endpoints=4
    )
    live: list[Endpoint] = [endpoint(id=f"e-{i}", state=state) for i, state in enumerate(states)]
    made.endpoints = {one.id: one for one in live}
    snapshot = made.snapshot()
    return [is_pinned(snapshot, one, model) for one in live]


def test_one_that_serves_is_pinned_until_another_one_is_ready() -> None:
    assert pinned(1, SERVING, STARTING) == [True, False]
    assert pinned(1, SERVING, SERVING) == [False, False]


def test_one_that_starts_is_pinned_where_those_that_serve_are_too_few() -> None:
    assert pinned(2, SERVING, STARTING) == [True, True]
    assert pinned(1, STARTING) == [True]
    assert pinned(0, SERVING) == [False]
