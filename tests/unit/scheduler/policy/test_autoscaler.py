import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.cluster import Demand
from services.scheduler.policy.planning.autoscaler import wanted_endpoints
from tests.unit.scheduler.values import model


@pytest.mark.parametrize(
    ("queued", "in_flight", "live", "max_endpoints", "expected", "reason"),
    [
        (0, 0, 0, 1, 0, "nobody waits: scale to zero"),
        (0, 0, 2, 4, 2, "an endpoint goes by keep-alive only"),
        (1, 0, 0, 1, 1, "one request is enough for one endpoint"),
        (9, 4, 1, 1, 1, "the model's own limit"),
        (1, 4, 1, 4, 2, "the slots of the first are in use"),
        (4, 0, 0, 4, 1, "four slots hold them all"),
        (5, 0, 0, 4, 2, "a fifth needs another"),
        (100, 4, 1, 4, 4, "the limit again"),
        (1, 0, 3, 2, 3, "a lowered limit ends no endpoint"),
    ],
)
def test_as_many_endpoints_as_the_requests_need(
    queued: int, in_flight: int, live: int, max_endpoints: int, expected: int, reason: str
) -> None:
    wanted = wanted_endpoints(
        model(max_slots=4, max_endpoints=max_endpoints), Demand(queued), in_flight, live
    )

    assert wanted == expected, reason


def test_requests_of_a_dead_endpoint_ask_for_another_before_their_gateways_come_again() -> None:
    assert wanted_endpoints(model(), Demand(num_orphaned=1), 0, 0) == 1


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 20), st.integers(1, 16))
def test_never_fewer_than_live_and_never_above_the_limit_by_itself(
    queued: int, in_flight: int, live: int, limit: int
) -> None:
    wanted = wanted_endpoints(model(max_endpoints=limit), Demand(queued), in_flight, live)

    assert live <= wanted <= max(live, limit)
