"""A pipeline becomes one worker: the small scenario with a second node, end to end."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from libs.common.startmode import StartMode
from libs.common.states import EndpointState, MemberMemory
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.decide import Decided
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL

# Two nodes, a model of 10.4 GB in 13 units of 0.8 GB, ends included: half of it on each.
TWO = SMALL.replace("min_pipeline_size = 1", "min_pipeline_size = 2\nends_gb = 2") + (
    "\n[consolidation]\nis_possible = true\nswitch_pause_s = 0.5\n"
)


def simulation_of(arrivals_s: Sequence[float], output_tokens: int, *more: str) -> Simulation:
    overrides = [Override.of(text) for text in ("nodes.node.count=2", *more)]
    scenario = scenarios.parse("two", TWO, overrides)
    count = len(arrivals_s)
    workload = Workload(
        *(ModelNames(scenario.models), np.array(arrivals_s), np.zeros(count, np.int64)),
        *(np.full(count, 100), np.full(count, output_tokens)),
    )
    return Simulation(scenario, StartMode.HYDRA, workload)


def only_endpoint(simulation: Simulation) -> Endpoint:
    (endpoint,) = simulation.leader.snapshot.endpoints
    return endpoint


def test_a_pipeline_that_serves_becomes_one_worker_with_all_layers() -> None:
    """10 GB in two parts: the entry has the ends of 2 GB and layers of 0.8 GB. The split in which
    both are done at once is 5.2 to 4.8 GB, 2.6 s at 2 GB/s; 0.5 s of tail. So it serves 3.1 s after
    the request at 1 s, and the sweep at 5 s decides. The other 4.8 GB take 2.4 s, and 0.48 s to the
    device: the switch is at 7.88 s, and 0.5 s later it goes on. The answer is long over."""
    simulation = simulation_of([1.0], 3)
    simulation.leader.begin()
    (request,) = simulation.workload.requests()
    simulation.events.run_until(1.0)
    simulation._arrive(request)
    simulation.events.run_until(4.2)
    before = only_endpoint(simulation)
    assert (before.state, before.num_stages) == (EndpointState.PIPELINED, 2)
    assert before.members[0].memory is MemberMemory.FULL
    assert sum(simulation.ledger.reserved_bytes.values()) == 12e9 + 4.8e9 + 2e9 * 0.6
    simulation.events.run_until(8.37)
    assert only_endpoint(simulation).state is EndpointState.CONSOLIDATING
    simulation.events.run_until(8.39)
    after = only_endpoint(simulation)
    assert (after.state, after.num_stages, after.generation) == (EndpointState.STANDALONE, 1, 2)
    assert (after.members[0].first_layer, after.members[0].last_layer) == (0, 10)
    assert len(after.workers) == 2  # until the other one has stopped, a second later
    simulation.events.run_until(9.5)
    assert [worker.id for worker in only_endpoint(simulation).workers] == [
        after.members[0].worker_id
    ]
    assert sum(simulation.ledger.reserved_bytes.values()) == 12e9


def test_requests_that_run_wait_for_the_switch_and_go_on() -> None:
    """Ready at 4.1 s; the prefill of 0.1 s ends at 4.201 s with a hop. A step takes 50 ms and a hop
    of 1 ms: the 73rd ends at 7.924 s, after the copy is done at 7.88 s. Then half a second nothing;
    the other 26 of 99 steps take 50 ms each: 9.724 s."""
    simulation = simulation_of([1.0], 100)
    simulation.run()
    recorder = simulation.recorder
    assert recorder.ttft_s[0] == pytest.approx(3.201)
    ended_at_s = 1.0 + recorder.ttft_s[0] + 99 * recorder.tpot_s[0]
    assert ended_at_s == pytest.approx(4.201 + 73 * 0.051 + 0.5 + 26 * 0.05)


def test_an_endpoint_that_is_idle_first_fetches_no_more() -> None:
    """Its answer ends at 5.2 s, and half a second later it is kept no more: two seconds before the
    rest would be there. Nothing is left."""
    simulation = simulation_of([1.0], 21, "keep_alive_s=0.5")
    decided: list[str] = []
    simulation.leader.on_decided = _also_noting(simulation.leader.on_decided, decided)
    simulation.run()
    assert [name for name in decided if "Consolidation" in name] == [
        "BeginConsolidation",
        "AbandonConsolidation",
    ]
    assert not any(simulation.ledger.reserved_bytes.values())
    assert not any(node.fetcher.fetches for node in simulation.cluster.nodes.values())
    assert len(simulation.leader.snapshot.endpoints) == 0


def _also_noting(
    decided_next: Callable[[Decided], None], names: list[str]
) -> Callable[[Decided], None]:
    def note(decided: Decided) -> None:
        names.extend(type(decision).__name__ for decision in decided.decisions)
        decided_next(decided)

    return note


def test_without_consolidation_the_pipeline_stays_one() -> None:
    simulation = simulation_of([1.0], 100, "is_possible=false")
    simulation.run()
    assert simulation.recorder.tpot_s[0] == pytest.approx(0.051)
