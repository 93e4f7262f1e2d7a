"""Endpoints that start although nobody waits for them, on virtual time."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pytest

from libs.common.startmode import StartMode
from libs.common.states import StartPurpose
from services.scheduler.policy import decisions as d
from services.scheduler.policy.decide import Decided
from services.scheduler.simulation.runner import Batch
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL

GROUP = tomllib.loads(SMALL)["models"]["model"]
PIN = Override("models.model.min_endpoints", 1, is_new=True)
# A start from the host cache takes 2.1 s: 0.6 s too late, which is worth 36 s of an idle endpoint.
AUTO = (
    Override("models.model.is_keep_alive_auto", True, is_new=True),
    Override.of("models.model.ttft_slo_s=1.5"),
)


def scenario_of(*overrides: Override) -> scenarios.Scenario:
    return scenarios.parse("small", SMALL, overrides)


class Run:
    """Requests of 100 tokens. `models`: the number of each request's model; left out, all are for
    the first."""

    def __init__(
        self, arrivals_s: Sequence[float], *overrides: Override, models: Sequence[int] | None = None
    ) -> None:
        scenario, count = scenario_of(*overrides), len(arrivals_s)
        workload = Workload(
            ModelNames(scenario.models),
            np.array(arrivals_s),
            np.zeros(count, np.int64) if models is None else np.array(models),
            np.full(count, 100),
            np.full(count, 11),
        )
        self.purposes: list[StartPurpose] = []
        self.drained_at_s: list[float] = []
        self.simulation = Simulation(scenario, StartMode.HYDRA, workload)
        self._on_decided = self.simulation.leader.on_decided
        self.simulation.leader.on_decided = self._decided
        self.simulation.run()

    @property
    def are_cold(self) -> list[bool]:
        return [bool(is_cold) for is_cold in self.simulation.recorder.are_cold]

    @property
    def device_gb_s(self) -> float:
        return sum(self.simulation.ledger.byte_s.values()) / 1e9

    def _decided(self, decided: Decided) -> None:
        starts = (x for x in decided.decisions if isinstance(x, d.StartEndpoint))
        self.purposes.extend(start.purpose for start in starts)
        drained = [x for x in decided.decisions if isinstance(x, d.DrainEndpoint)]
        self.drained_at_s.extend(decided.snapshot.now_s for _ in drained)
        self._on_decided(decided)


# ------------------------------------------------------------------------- pinned


def test_a_pinned_model_has_its_endpoint_before_the_first_request_and_keeps_it() -> None:
    """It starts at 0 s and is there until the run ends at 100 s: 12 GB for 100 s."""
    run = Run([60.0], PIN)
    assert list(run.simulation.recorder.ttft_s) == [pytest.approx(0.1)]
    assert run.are_cold == [False]
    assert run.purposes == [StartPurpose.MINIMUM]
    assert run.simulation.recorder.starts[0].at_s == 0.0
    assert run.device_gb_s == pytest.approx(12 * 100)


def test_what_is_pinned_is_fetched_with_what_a_start_that_somebody_waits_for_leaves() -> None:
    """At 2 GB/s the pinned model has 3 of 10 GB at 1.5 s, when another one is asked. That one has
    the network until 6.5 s, serves at 7 s and answers at 7.1 s, as if it were alone. The pinned one
    has its other 7 GB at 10 s and serves at 10.5 s. So 12 GB start for 5.5 s, 12 for 10.5 s."""
    pinned = Override("models.pinned", {**GROUP, "min_endpoints": 1}, is_new=True)
    run = Run([1.5], pinned, Override.of("num_devices=2"))
    assert list(run.simulation.recorder.ttft_s) == [pytest.approx(5.6)]
    assert run.purposes == [StartPurpose.MINIMUM, StartPurpose.REQUEST]
    assert run.simulation.ledger.starting_byte_s / 1e9 == pytest.approx(12 * (5.5 + 10.5))


def test_pinned_models_that_nobody_asks_cost_what_they_hold() -> None:
    """Two of them have 12 GB each as long as the run lasts. The one request is for another model,
    because popularity falls that steeply."""
    pinned = Override("models.pinned", {**GROUP, "count": 2, "min_endpoints": 1}, is_new=True)
    steep = Override("traffic.zipf_exponent", 99, is_new=True)
    scenario = scenario_of(pinned, steep, Override.of("num_devices=3"))
    run = Batch(scenario, [StartMode.HYDRA], [1]).run()[0]
    assert run.number("num_models_asked") == 1
    asked_gb_s = run.number("groups", "model", "device_gb_s")
    ended_at_s = run.number("simulated_s")
    assert asked_gb_s is not None and ended_at_s is not None
    expected_gb_s = asked_gb_s + 2 * 12 * ended_at_s
    assert run.number("cost", "device_gb_s") == pytest.approx(expected_gb_s)


# ------------------------------------------------------------------------ learnt


REGULAR_S = (240.0,) * 29
# No two of them end in the same bin of the history.
IRREGULAR_S = (500, 1_500, 250, 2_200, 900, 360, 3_000, 700, 300, 1_100, 420, 1_800, 600, 2_600)


def asked_after(gaps_s: Sequence[float], *overrides: Override) -> Run:
    arrivals_s = list(accumulate(gaps_s, initial=0.5))
    return Run(arrivals_s, *overrides, Override.of(f"duration_s={arrivals_s[-1]}"))


def test_a_model_that_is_asked_regularly_is_there_when_it_is_expected() -> None:
    run, without = asked_after(REGULAR_S, *AUTO), asked_after(REGULAR_S)
    assert sum(run.are_cold) <= 5
    assert not any(run.are_cold[5:])
    assert run.purposes.count(StartPurpose.AHEAD) >= 25
    assert all(without.are_cold)
    assert StartPurpose.AHEAD not in without.purposes


def test_a_model_that_is_asked_at_no_regular_times_is_not_started_ahead() -> None:
    run = asked_after(IRREGULAR_S, *AUTO)
    assert set(run.purposes) == {StartPurpose.REQUEST}


def test_an_endpoint_that_was_started_ahead_goes_when_its_request_does_not_come() -> None:
    """The last gap is 3000 s. The last answer before it ends 0.6 s after its request, at 6961.1 s:
    the bin of 240 s ends at 256 s, and the next sweep is at 7218 s. Another one is not started
    ahead in this gap."""
    run, regular = asked_after((*REGULAR_S, 3_000.0), *AUTO), asked_after(REGULAR_S, *AUTO)
    assert run.purposes[: len(regular.purposes)] == regular.purposes
    later = run.purposes[len(regular.purposes) :]
    assert later == [StartPurpose.AHEAD, StartPurpose.REQUEST]
    assert run.drained_at_s[-1] == 7_218.0
    assert run.are_cold[-1]


# ------------------------------------------------------------------ the same again


def repeatable_text() -> str:
    """Twelve models that are asked every 240 s, 5 s one after the other, and two pinned ones, where
    nodes have room for twelve endpoints."""
    pinned = Override("models.pinned", {**GROUP, "count": 2, "min_endpoints": 1}, is_new=True)
    nodes = (Override.of("nodes.node.count=3"), Override.of("nodes.node.num_devices=2"))
    places = [(240.0 * turn + 5.0 * model, model) for turn in range(8) for model in range(12)]
    run = Run(
        [at_s for at_s, _ in places],
        *(*AUTO, pinned, *nodes, Override.of("models.model.count=12")),
        models=[model for _, model in places],
    )
    assert run.purposes.count(StartPurpose.AHEAD) > 30
    recorder = run.simulation.recorder
    return str((recorder.starts, recorder.ttft_s, run.device_gb_s))


def test_a_run_is_the_same_again_in_a_process_whose_sets_have_another_order() -> None:
    module = "tests.unit.scheduler.simulation.test_unasked_starts"
    other = subprocess.run(
        [sys.executable, "-c", f"from {module} import repeatable_text;print(repeatable_text())"],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    assert other.stdout.strip() == repeatable_text()
