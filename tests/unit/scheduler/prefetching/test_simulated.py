"""Weights that are fetched ahead of expected requests, on virtual time."""

import tomllib

import numpy as np
import pytest

from libs.common.startmode import StartMode
from libs.common.states import PrefetchState
from services.scheduler.policy import decisions as d
from services.scheduler.policy.decide import Decided
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL

GROUP = tomllib.loads(SMALL)["models"]["model"]
PERIOD_S = 240.0
NUM_PERIODS = 12
# 10 GB take 5 s, and a start 0.2 s longer than it is to take: too little for an endpoint ahead. Two
# other models are asked in between, and there is room for one endpoint and for the weights of two.
OVERRIDES = (
    Override("models.model.is_keep_alive_auto", True, is_new=True),
    Override.of("models.model.ttft_slo_s=5.4"),
    Override("models.other", {**GROUP, "count": 2, "keep_alive_s": 5}, is_new=True),
    Override.of("nodes.node.host_cache_gb=25"),
)


class Run:
    """Model 0 is asked every 240 s, the others 60 s and 90 s later."""

    def __init__(self, *overrides: Override) -> None:
        scenario = scenarios.parse("small", SMALL, (*OVERRIDES, *overrides))
        begins = PERIOD_S * np.arange(NUM_PERIODS)
        arrivals = np.sort(np.concatenate((begins, begins + 60.0, begins + 90.0)))
        models = np.tile(np.arange(3), NUM_PERIODS)
        count = len(arrivals)
        sizes = (np.full(count, 100), np.full(count, 11))
        workload = Workload(ModelNames(scenario.models), arrivals, models, *sizes)
        self.decided: list[d.Decision] = []
        self.simulation = Simulation(scenario, StartMode.HYDRA, workload)
        self._on_decided = self.simulation.leader.on_decided
        self.simulation.leader.on_decided = self._decided
        self.simulation.run()

    def _decided(self, decided: Decided) -> None:
        self.decided += decided.decisions
        self._on_decided(decided)

    @property
    def ends(self) -> list[PrefetchState]:
        found = (x.state for x in self.decided if isinstance(x, d.EndPrefetch))
        return [state for state in found if not state.is_open]

    @property
    def ttft_s(self) -> list[float]:
        """Of model 0, the first request first."""
        return [float(ttft_s) for ttft_s in self.simulation.recorder.ttft_s[::3]]


def test_a_model_that_is_asked_regularly_finds_its_weights_in_the_host_cache() -> None:
    """Without them its start takes 5.5 s, with them 2 s, and the prompt 0.1 s. Its gaps are known
    after the third."""
    run = Run()

    assert run.ttft_s == pytest.approx([5.6] * 4 + [2.1] * (NUM_PERIODS - 4))
    assert run.ends == [PrefetchState.USED] * (NUM_PERIODS - 4)


def test_others_wait_no_longer_than_without_it() -> None:
    """Their own weights are evicted in both cases, and a prefetch is in the background."""
    fixed = Override("models.model.is_keep_alive_auto", False, is_new=True)
    ahead, never = Run(), Run(fixed, Override.of("models.model.keep_alive_s=5"))

    others = [run.simulation.recorder.ttft_s[1::3] for run in (ahead, never)]
    assert not never.ends
    assert float(np.mean(others[0])) <= float(np.mean(others[1])) + 0.05


def test_nothing_is_prefetched_where_host_caches_keep_nothing() -> None:
    run = Run(Override("host_cache", {"keeps_units": False}, is_new=True))

    assert not run.ends
