"""Per model first come, first served, whatever starts, ends or gives way meanwhile."""

import random

import pytest

from services.scheduler.policy import decisions as d
from tests.unit.scheduler.decide.played import PlayedCluster
from tests.unit.scheduler.snapshots import SmallCluster, a_model
from tests.unit.scheduler.values import summary

MODEL_BYTES = summary().weight_bytes + 100


@pytest.mark.parametrize("seed", range(6))
def test_requests_of_a_model_are_given_away_in_the_order_in_which_they_came(seed: int) -> None:
    """Of three models on a node with room for two endpoints, which take turns on it."""
    rng, made = random.Random(seed), SmallCluster()
    made.add_node("node-1", memory_bytes=2 * MODEL_BYTES)
    for i in range(3):
        made.add_model(a_model(f"model-{i}", max_slots=2, max_endpoints=1 + i % 2), summary())
    played = PlayedCluster(made, service_s=rng.choice([1.0, 3.0]))
    arrived_s: dict[str, float] = {}
    for _ in range(240):
        if rng.random() < 0.3:
            played.ask(f"model-{rng.randrange(3)}")
        arrived_s |= {r.id: r.arrived_at_s for r in made.requests.values()}
        played.step()
    played.play(200.0)

    given = [x for x in played.decided if isinstance(x, d.AssignRequest)]
    assert len(given) == len(arrived_s) > 50, "everybody was served, once"
    for i in range(3):
        moments = [arrived_s[x.request_id] for x in given if x.model_id == f"model-{i}"]
        assert moments == sorted(moments)
