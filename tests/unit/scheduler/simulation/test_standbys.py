"""Processes that stand by: taken by launches, and made anew."""

import numpy as np
import pytest

from libs.common.startmode import StartMode
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL

NODE = "num_standbys = 1\nstandby_refill_s = 0.5\nhost_cache_gb"
QUIET = "num_standbys = 1\nstandby_refill_s = 0.5\nrefills_when_quiet = true\nhost_cache_gb"


def ttft_s(node: str, base: str = SMALL) -> list[float]:
    """Of requests for two models, a second apart, and for the first one again half a minute later.
    At 800 Gbit/s what is waited for is the copy with a standby (1.75 s), and the launch without one
    (2 s); then 0.1 s of prefill."""
    text = base.replace("host_cache_gb", node).replace("nic_gbps = 16", "nic_gbps = 800")
    scenario = scenarios.parse(
        "small", text.replace("[models.model]\ncount = 1", "[models.model]\ncount = 2")
    )
    workload = Workload(
        *(ModelNames(scenario.models), np.array([1.0, 2.0, 32.0]), np.array([0, 1, 0])),
        *(np.full(3, 100), np.full(3, 2)),
    )
    simulation = Simulation(scenario, StartMode.HYDRA, workload)
    simulation.run()
    found = zip(simulation.recorder.indexes, simulation.recorder.ttft_s, strict=True)
    return [value for _, value in sorted(found)]


def test_a_standby_stands_again_a_while_after_it_was_taken() -> None:
    """Taken at 1 s, there again at 1.5 s."""
    assert ttft_s(NODE) == [pytest.approx(1.85), pytest.approx(1.85), pytest.approx(1.85)]


def test_a_node_that_refills_when_it_is_quiet_waits_for_the_workers_that_start() -> None:
    """The first one is ready at 2.75 s: at 2 s there is no standby. At 32 s there is one again."""
    assert ttft_s(QUIET) == [pytest.approx(1.85), pytest.approx(2.1), pytest.approx(1.85)]


def test_with_layers_that_compute_as_they_come_cached_weights_have_no_tail() -> None:
    """The third start has all of its 10 GB: its copy ends after 1.25 s, and 0.5 s of tail are not
    added. Its process could compute after 0.5 s, so nine of ten layers have had the prompt by then:
    0.01 s of 0.1 s are left."""
    streaming = SMALL.replace("stop_s = 1", "stop_s = 1\nprefills_while_loading = true")
    assert ttft_s(NODE, streaming)[2] == pytest.approx(1.25 + 0.01)
