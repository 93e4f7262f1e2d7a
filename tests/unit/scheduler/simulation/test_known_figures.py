"""What a simulated leader has measured when a run begins."""

import numpy as np

from libs.common.startmode import StartMode
from services.scheduler.policy.prediction.quantities import MeasurementKey, Quantity
from services.scheduler.simulation.leader.known_figures import Values
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL


def num_stages(measured: Values | None) -> int:
    """Of one start on four nodes; the target is 8 s."""
    scenario = scenarios.parse("small", SMALL, [Override.of("nodes.node.count=4")])
    workload = Workload(
        *(ModelNames(scenario.models), np.array([1.0]), np.zeros(1, np.int64)),
        *(np.full(1, 100), np.full(1, 2)),
    )
    simulation = Simulation(scenario, StartMode.HYDRA, workload, measured)
    simulation.run()
    (start,) = simulation.recorder.starts
    return start.num_stages


def test_a_leader_plans_with_what_it_is_given_instead_of_the_constants() -> None:
    """One worker is predicted to take 5.6 s. If starts of the model have taken twice as long as
    predicted that is 11.2 s, more than 8, and two take 2 x (2.6 + 0.5) s or a little more."""
    assert num_stages(None) == 1
    assert num_stages({MeasurementKey(Quantity.TTFT_RATIO, model_id="model"): (1.0,)}) == 1
    assert num_stages({MeasurementKey(Quantity.TTFT_RATIO, model_id="model"): (2.0, 2.0)}) == 2


def test_what_is_given_of_other_models_changes_nothing() -> None:
    assert num_stages({MeasurementKey(Quantity.TTFT_RATIO, model_id="other"): (2.0, 2.0)}) == 1
