"""What a simulated leader does as the published one: it waits for starts, and assumes constants."""

import pytest

from libs.common.startmode import StartMode
from services.scheduler.simulation.scenario.overrides import Override
from tests.unit.scheduler.simulation.test_simulation import simulated

# Three nodes, and an endpoint takes one request at a time.
ROOM = (
    "nodes.node.count=3",
    Override("models.model.max_slots", 1, is_new=True),
    Override("models.model.max_endpoints", 3, is_new=True),
)
WAITS = Override("leader.waits_for_starts", True, is_new=True)


def test_who_asks_while_an_endpoint_starts_is_looked_at_once_it_has_started() -> None:
    """The first start takes 5.6 s with its prefill of 0.1 s; the second request, a second later,
    gets one of its own at once, on another node. Or the loop waits, and its start begins when that
    of the first is done."""
    at_once = simulated([1.0, 2.0], StartMode.SINGLE, *ROOM)
    assert list(at_once.recorder.ttft_s) == pytest.approx([5.6, 5.6])
    waited = simulated([1.0, 2.0], StartMode.SINGLE, *ROOM, WAITS)
    assert waited.leader.figures.num_starts == 2
    assert waited.recorder.ttft_s[0] == pytest.approx(5.6)
    # The first is ready at 6.5 s. Its node has the weights: 2 s of launch, and the prefill.
    assert waited.recorder.ttft_s[1] == pytest.approx(6.5 + 2.0 + 0.1 - 2.0)


def test_what_is_assumed_of_starts_decides_on_stages_and_not_how_long_they_take() -> None:
    """One worker takes 5.6 s as nodes are, in time for 8 s. Taken for 20 s, no plan is in time, so
    the soonest is made: of those that are as soon the one whose bytes arrive first, on four
    nodes."""
    four = "nodes.node.count=4"
    known = simulated([1.0], StartMode.HYDRA, four)
    assert known.recorder.starts_by_stages == {1: 1}
    assumes = Override("leader.assumed_launch_s", 20.0, is_new=True)
    assumed = simulated([1.0], StartMode.HYDRA, four, assumes)
    assert assumed.recorder.starts_by_stages == {4: 1}
    # 2.88 GB: 1.44 s; launched after 2 s; 0.1 s and three hops of 1 ms.
    assert list(assumed.recorder.ttft_s) == [pytest.approx(2.103)]
