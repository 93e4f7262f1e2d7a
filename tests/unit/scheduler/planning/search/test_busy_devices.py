"""A device on which nobody computes may be worth a later first token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.planner import Choice
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.prediction.device_shares import DeviceNeighbour
from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import ModelSpeed
from tests.unit.scheduler.values import cluster, deployable, device, model, node


@dataclass(frozen=True)
class BusyNodes:
    """A worker with half of the memory of its device wants all of its compute."""

    ids: frozenset[str]

    def of(self, node_id: str, _device_index: int) -> Sequence[DeviceNeighbour]:
        return (DeviceNeighbour(0.5, 1.0),) if node_id in self.ids else ()


def choose(ttft_s: float, max_pipeline_size: int = 1) -> Choice:
    """A model of 510 bytes, with a KV cache of 2,048. On `near`, with twice the network, it would
    have 0.2558 of the memory beside a half that is busy: 0.2558 / 0.7558 of the compute, 0.338."""
    near = node(device("near", memory=10_000, reserved=5_000), nic=100)
    idle = node(device("idle", memory=10_000), nic=50)
    objective = Objective(
        ttft_s=ttft_s,
        tpot_s=0.05,
        speed=ModelSpeed(prefill_s=0.01, step_s=0.04, hop_s=0.0),
        serving_s=60.0,
    )
    wanted = deployable(model(max_pipeline_size=max_pipeline_size))
    wanted = replace(wanted, neighbours=BusyNodes(frozenset({"near"})), objective=objective)
    return planner.choose(cluster(near, idle), wanted)


def node_ids(choice: Choice) -> list[str]:
    assert isinstance(choice.plan, Plan)
    return [stage.node_id for stage in choice.plan.stages]


@pytest.mark.parametrize("max_pipeline_size", [1, 2, 4])
def test_one_that_meets_both_targets_is_taken_though_another_is_sooner(
    max_pipeline_size: int,
) -> None:
    """On `near` a token would take 40 ms / 0.338 = 118 ms, on `idle` it takes 40."""
    choice = choose(20.0, max_pipeline_size)
    assert node_ids(choice) == ["idle"]
    assert choice.prediction is not None
    assert choice.prediction.tpot_s == pytest.approx(0.04)


def test_where_it_would_be_too_late_the_busy_one_is_taken() -> None:
    """510 bytes take 5.1 s at 100 bytes/s, and 10.2 s at 50; a prompt 0.01 s."""
    choice = choose(8.0)
    assert node_ids(choice) == ["near"]
    verdicts = {plan.node_ids: plan.verdict for plan in choice.considered}
    assert verdicts["idle",].startswith("first token after 10.21 s")


def test_a_pipeline_is_spread_over_devices_on_which_nobody_computes() -> None:
    """Four cards, two of them twice as fast and busy. On the idle ones two halves of 510 bytes take
    5.1 s at 50 bytes/s; one worker would take 10.2 s, and beside others a token 80 ms and more."""
    nodes = [node(device(id_, memory=10_000, reserved=5_000), nic=100) for id_ in ("a", "b")]
    nodes += [node(device(id_, memory=10_000), nic=50) for id_ in ("c", "d")]
    objective = Objective(
        ttft_s=8.0,
        tpot_s=0.05,
        speed=ModelSpeed(prefill_s=0.01, step_s=0.04, hop_s=0.001),
        serving_s=60.0,
    )
    wanted = deployable(model(max_pipeline_size=2))
    wanted = replace(wanted, neighbours=BusyNodes(frozenset("ab")), objective=objective)

    choice = planner.choose(cluster(*nodes), wanted)

    assert sorted(node_ids(choice)) == ["c", "d"]
    assert choice.prediction is not None
    assert choice.prediction.tpot_s == pytest.approx(0.041)
