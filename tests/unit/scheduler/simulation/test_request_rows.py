"""When rounds read which requests, and what scaling makes of them."""

from collections.abc import Sequence

import numpy as np
import pytest

from libs.common.startmode import StartMode
from services.scheduler.policy.tables.snapshot_tables import request_table
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.leader.request_rows import RequestRows
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL


def request(index: int, model_id: str = "m") -> SimulatedRequest:
    return SimulatedRequest(index, "group", model_id, 5.0, 700, 2)


def test_a_submitted_request_is_read_at_once_with_its_prompt() -> None:
    rows = RequestRows(deadline_s=60.0)
    rows.submit(request(1))
    (read,) = rows.read(request_table(), is_sweep=False)
    assert (read.is_queued, read.deadline_at_s, read.num_prompt_tokens) == (True, 65.0, 700)


def test_one_that_went_past_the_scheduler_is_read_by_a_sweep_with_its_endpoint() -> None:
    rows = RequestRows(60.0)
    rows.give(request(1), "endpoint-1")
    table = rows.read(request_table(), is_sweep=False)
    assert len(table) == 0
    assert rows.changed_models(table) == {"m"}
    table = rows.read(table, is_sweep=True)
    assert [row.endpoint_id for row in table] == ["endpoint-1"]


def test_one_that_came_and_went_between_two_sweeps_is_never_seen() -> None:
    rows = RequestRows(60.0)
    rows.give(request(1), "endpoint-1")
    rows.end(request(1), is_urgent=False)
    assert rows.changed_models(request_table()) == set()
    assert len(rows.read(request_table(), is_sweep=True)) == 0


@pytest.mark.parametrize(
    ("is_urgent", "is_sweep", "num_left", "reason"),
    [
        (True, False, 0, "somebody waits for its slot"),
        (False, False, 1, "nothing depends on it yet"),
        (False, True, 0, "a sweep reads all"),
    ],
)
def test_an_end_is_read_when_it_matters(
    is_urgent: bool, is_sweep: bool, num_left: int, reason: str
) -> None:
    rows = RequestRows(60.0)
    rows.give(request(1), "endpoint-1")
    table = rows.read(request_table(), is_sweep=True)
    rows.end(request(1), is_urgent=is_urgent)
    assert len(rows.read(table, is_sweep=is_sweep)) == num_left, reason


def test_whoever_begins_to_wait_is_read_with_the_ends_of_its_model() -> None:
    """Else the slots of those that have ended would be taken for used."""
    rows = RequestRows(60.0)
    rows.give(request(1), "endpoint-1")
    rows.give(request(2, "other"), "endpoint-2")
    table = rows.read(request_table(), is_sweep=True)
    rows.end(request(1), is_urgent=False)
    rows.end(request(2, "other"), is_urgent=False)
    rows.submit(request(3))
    table = rows.read(table, is_sweep=False)
    assert {row.id for row in table} == {"request-2", "request-3"}


def simulated(arrivals_s: Sequence[float], *overrides: str, output_tokens: int) -> Simulation:
    text = SMALL.replace("num_layers = 10", "num_layers = 10\nmax_slots = 8\nmax_endpoints = 8")
    scenario = scenarios.parse("small", text, [Override.of(x) for x in overrides])
    count = len(arrivals_s)
    workload = Workload(
        *(ModelNames(scenario.models), np.array(arrivals_s), np.zeros(count, np.int64)),
        *(np.full(count, 100), np.full(count, output_tokens)),
    )
    simulation = Simulation(scenario, StartMode.HYDRA, workload)
    simulation.run()
    return simulation


def test_a_model_whose_endpoints_are_full_of_warm_requests_gets_another_one() -> None:
    """Two slots, of which warm requests of 10 s take both from 10 s on; the one at 13.5 s finds
    none free. Who runs counts, though the scheduler gave a slot to the first one alone: three
    requests need two endpoints."""
    several = ("nodes.node.count=3", "max_slots=2")
    simulation = simulated([1.0, 10.0, 11.0, 13.5], *several, output_tokens=200)
    assert simulation.leader.figures.num_starts == 2
    assert len(simulation.recorder.ttft_s) == 4
    assert max(simulation.recorder.ttft_s) < 8.0


def test_what_scaling_learns_from_is_fed_by_warm_requests_too() -> None:
    """One each second for 20 s, each of 100 tokens and 20 steps: more than a second, so that sweeps
    see them. All but the first find the endpoint serving by 7 s."""
    arrivals = [1.0, *np.arange(10.25, 30.0, 1.0)]
    simulation = simulated(arrivals, output_tokens=30)
    traffic = simulation.leader.snapshot.activities["model"]
    assert traffic.gaps.reached[0] > 0  # it has rested, and was asked again
    assert simulation.leader.figures.num_starts == 1
