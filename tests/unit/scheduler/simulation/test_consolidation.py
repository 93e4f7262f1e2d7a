"""A pipeline becomes one worker, or several: the small scenario with a second node."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from libs.common.startmode import StartMode
from libs.common.states import EndpointState, MemberMemory
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.consolidation.decisions import AbandonConsolidation
from services.scheduler.policy.decide import Decided
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL

# Two nodes, a model of 10.4 GB in 13 units of 0.8 GB, ends included: half of it on each.
OWN = "min_pipeline_size = 2\nends_gb = 2\nfull_memory_workers = 1\nmax_endpoints = 8"
TWO = SMALL.replace("min_pipeline_size = 1", OWN) + (
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


def growing_simulation(*more: str, output_tokens: int = 400) -> Simulation:
    """Twelve requests at 1 s, of which an endpoint has eight: both workers have memory for the
    whole model, and both are needed."""
    own = ("full_memory_workers=2", *more)
    return simulation_of([1.0] * 12, output_tokens, *own)


def run_until(simulation: Simulation, until_s: float) -> None:
    simulation.leader.begin()
    for request in simulation.workload.requests():
        simulation.events.run_until(request.arrived_at_s)
        simulation._arrive(request)
    simulation.events.run_until(until_s)


def test_both_workers_become_endpoints_where_the_model_needs_two() -> None:
    """The entry goes on at 8.38 s or half a step of 0.051 to 0.086 s later. The other worker lacks
    5.2 GB, which take 2.6 s from 5 s on and 0.52 s to its device. It serves the four that wait."""
    simulation = growing_simulation()
    run_until(simulation, 8.37)
    (pipeline,) = simulation.leader.snapshot.endpoints
    (growing,) = pipeline.growing_workers
    run = simulation.cluster.endpoints[pipeline.id].engine.num_requests
    assert (pipeline.num_stages, run) == (2, 8)

    simulation.events.run_until(8.6)

    parent, child = sorted(simulation.leader.snapshot.endpoints, key=lambda e: e.id != pipeline.id)
    assert [e.state for e in (parent, child)] == [EndpointState.STANDALONE] * 2
    assert [w.id for w in child.workers] == [growing.id]
    assert (parent.generation, child.generation) == (2, 2)
    assert set(simulation.ledger.reserved_bytes.values()) == {12e9}
    modelled = simulation.cluster.endpoints[child.id]
    assert (modelled.engine.num_requests, modelled.workers[0].row.endpoint_id) == (4, child.id)


def test_two_endpoints_of_one_start_end_without_a_rest() -> None:
    simulation = growing_simulation()
    simulation.run()
    assert len(simulation.recorder.starts) == 1
    assert len(simulation.recorder.ttft_s) == 12
    assert not any(simulation.ledger.reserved_bytes.values())
    assert not simulation.cluster.endpoints
    for node in simulation.cluster.nodes.values():
        assert not node.workers and not node.fetcher.fetches


def test_a_worker_that_lacks_layers_at_the_switch_goes_on_and_serves_then() -> None:
    """With no pause to speak of the entry switches before the other one has all, at 8.12 s."""
    simulation = growing_simulation("switch_pause_s=0.01")
    run_until(simulation, 8.1)
    (parent,) = simulation.leader.snapshot.endpoints
    assert (parent.state, len(parent.growing_workers)) == (EndpointState.STANDALONE, 1)
    (left,) = simulation.cluster.endpoints[parent.id].leaving
    assert not left.is_stopped and left.generation == 1

    simulation.events.run_until(8.13)

    assert len(simulation.leader.snapshot.endpoints) == 2
    assert left.generation == 2 and left.consolidation is None
    assert simulation.cluster.endpoints[parent.id].leaving == ()


def test_a_worker_that_was_left_and_has_no_target_any_more_ends() -> None:
    simulation = growing_simulation("switch_pause_s=0.01")
    run_until(simulation, 8.1)
    (parent,) = simulation.leader.snapshot.endpoints
    (growing,) = parent.growing_workers
    assert growing.consolidation is not None
    about = (parent.model_id, parent.id, growing.consolidation.id, growing.node_id)

    simulation.cluster.abandon_consolidation(
        AbandonConsolidation(*about, why="nobody needs it", counts=False)
    )

    (left,) = simulation.cluster.endpoints[parent.id].leaving
    assert left.is_stopped and left.target is None
    entry = simulation.cluster.endpoints[parent.id].workers[0]
    assert not entry.is_stopped


def test_a_pipeline_that_is_idle_first_stays_one_with_all_its_workers() -> None:
    """At 1 GB/s: the layers would take 5 s and more, the answers end before."""
    simulation = growing_simulation("nic_gbps=8", "keep_alive_s=0.5", output_tokens=21)
    decided: list[str] = []
    simulation.leader.on_decided = _also_noting(simulation.leader.on_decided, decided)
    simulation.run()
    assert [name for name in decided if name.endswith("Consolidation")] == [
        *["BeginConsolidation"] * 2,
        *["AbandonConsolidation"] * 2,
    ]
    assert "SeparateWorker" not in decided
    assert not any(simulation.ledger.reserved_bytes.values())
    assert not any(node.fetcher.fetches for node in simulation.cluster.nodes.values())
