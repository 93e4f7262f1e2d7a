"""Small scenarios from end to end: the scheduler's own decisions, modelled nodes."""

import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from libs.common.startmode import StartMode
from services.scheduler.simulation.results.report import as_json, document
from services.scheduler.simulation.runner import Batch
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload
from tests.unit.scheduler.simulation.scenarios import SMALL


def simulated(
    arrivals_s: Sequence[float],
    mode: StartMode = StartMode.HYDRA,
    *overrides: str | Override,
    output_tokens: int = 11,
) -> Simulation:
    """Requests of 100 tokens for the small scenario's first model."""
    changes = [x if isinstance(x, Override) else Override.of(x) for x in overrides]
    scenario = scenarios.parse("small", SMALL, changes)
    count = len(arrivals_s)
    workload = Workload(
        ModelNames(scenario.models),
        np.array(arrivals_s),
        np.zeros(count, np.int64),
        np.full(count, 100),
        np.full(count, output_tokens),
    )
    simulation = Simulation(scenario, mode, workload)
    simulation.run()
    return simulation


def test_a_cold_start_takes_its_fetch_its_tail_and_its_prefill() -> None:
    """10 GB at 16 Gbit/s: 5 s, while the process launches in 2 s and copies what arrives. The tail
    takes 0.5 s, the prefill 0.1 s; then 10 steps of 50 ms."""
    recorder = simulated([1.0]).recorder
    assert list(recorder.ttft_s) == [pytest.approx(5.6, abs=1e-9)]
    assert list(recorder.tpot_s) == [pytest.approx(0.05, abs=1e-9)]
    assert list(recorder.are_cold) == [True]


def test_with_a_fast_network_the_launch_and_the_copy_are_what_takes_long() -> None:
    """At 800 Gbit/s the fetch takes 0.1 s. The copy begins after 0.25 s and takes 1 s; its tail
    ends at 1.75 s, before the launch does at 2 s. With a standby the copy is what is waited for."""
    fast = "nodes.node.nic_gbps=800"
    assert list(simulated([1.0], StartMode.HYDRA, fast).recorder.ttft_s) == [pytest.approx(2.1)]
    text = SMALL.replace("host_cache_gb", "num_standbys = 1\nhost_cache_gb")
    scenario = scenarios.parse("small", text, [Override.of(fast)])
    run = Batch(scenario, [StartMode.HYDRA], [1]).run()[0]
    assert run.number("ttft_s", "median") == pytest.approx(1.85)


def test_one_after_the_other_the_fetch_the_launch_and_the_load_add_up() -> None:
    """5 s of fetch, 2 s of launch, 10 GB at 5 GB/s and 0.25 s of tail, 0.1 s of prefill: 9.35 s."""
    recorder = simulated([1.0], StartMode.SEQUENTIAL).recorder
    assert list(recorder.ttft_s) == [pytest.approx(9.35, abs=1e-9)]


def test_what_the_leader_and_the_bus_take_is_added_where_it_is_waited_for() -> None:
    """A round of 20 ms and two messages of 1 ms until the node begins; two more for the request and
    its first token. A warm request has those two alone: 0.1 + 0.002 s. No sweep is under way."""
    text = SMALL + "\n[leader]\nround_s = 0.02\nmessage_s = 0.001\n"
    scenario = scenarios.parse("small", text)
    workload = Workload(
        *(ModelNames(scenario.models), np.array([1.5, 12.5]), np.zeros(2, np.int64)),
        *(np.full(2, 100), np.full(2, 2)),
    )
    simulation = Simulation(scenario, StartMode.HYDRA, workload)
    simulation.run()
    cold, warm = simulation.recorder.ttft_s
    assert cold == pytest.approx(5.6 + 0.022 + 0.002)
    assert warm == pytest.approx(0.1 + 0.002)


def test_a_warm_request_goes_past_the_scheduler() -> None:
    simulation = simulated([1.0, 12.0])
    assert list(simulation.recorder.ttft_s) == pytest.approx([5.6, 0.1])
    assert list(simulation.recorder.are_cold) == [True, False]
    assert simulation.leader.figures.num_starts == 1


def test_memory_is_free_again_when_the_keep_alive_is_over_and_the_worker_has_stopped() -> None:
    """Decided at 1 s, ready and done at 7.1 s; the sweep at 18 s finds it idle for 10 s; its worker
    has drained at once, and is gone a second after it was told: 12 GB for 18 s."""
    simulation = simulated([1.0])
    assert sum(simulation.ledger.byte_s.values()) / 1e9 == pytest.approx(12 * 18, abs=12 * 0.01)
    assert not any(simulation.ledger.reserved_bytes.values())


def test_after_the_keep_alive_the_weights_are_still_in_the_host_cache() -> None:
    """The second start has all its bytes: 2 s of launch and 0.1 s of prefill."""
    first, second = simulated([1.0, 60.0]).recorder.ttft_s
    assert [first, second] == pytest.approx([5.6, 2.1])
    no_cache = SMALL + "\n[host_cache]\nkeeps_units = false\n"
    scenario = scenarios.parse("small", no_cache)
    workload = Workload(
        *(ModelNames(scenario.models), np.array([1.0, 60.0]), np.zeros(2, np.int64)),
        *(np.full(2, 100), np.full(2, 2)),
    )
    without = Simulation(scenario, StartMode.HYDRA, workload)
    without.run()
    assert list(without.recorder.ttft_s) == pytest.approx([5.6, 5.6])


def test_a_pipeline_fetches_its_parts_at_the_same_time() -> None:
    """Four nodes: the largest stage has the ends (0.4 GB) and two layers of 0.96 GB, or three
    layers: at most 2.88 GB, so 1.44 s; launched after 2 s, which is longer. Its prefill takes
    0.1 s and three hops of 1 ms. Half a GB a second makes the fetch the longer one: 5.76 s, and
    the tail."""
    four = ("nodes.node.count=4", "num_layers=10", "min_pipeline_size=4")
    quick = simulated([1.0], StartMode.HYDRA, *four)
    assert list(quick.recorder.ttft_s) == [pytest.approx(2.103)]
    assert quick.recorder.starts_by_stages == {4: 1}
    slow = simulated([1.0], StartMode.HYDRA, *four, "nic_gbps=4")
    assert list(slow.recorder.ttft_s) == [pytest.approx(5.76 + 0.5 + 0.103, abs=0.001)]


BUSY = (
    *("nodes.node.count=3", "num_devices=2", "models.model.count=12", "rate=1.5", "zipf=1"),
    "max_slots=2",
)


def busy_scenario() -> scenarios.Scenario:
    text = SMALL.replace("rate_per_s", "zipf_exponent = 0\nrate_per_s")
    text = text.replace("num_layers", "max_slots = 8\nnum_layers")
    return scenarios.parse("busy", text, [Override.of(override) for override in BUSY])


@pytest.mark.parametrize("mode", list(StartMode))
@pytest.mark.parametrize("seed", range(3))
def test_every_request_ends_and_no_device_is_ever_over_reserved(mode: StartMode, seed: int) -> None:
    """The ledger raises for a device of which more is reserved than it has."""
    run = Batch(busy_scenario(), [mode], [seed]).run()[0]
    assert run.number("num_requests") == 150
    assert run.number("num_unended") == 0
    assert run.number("num_unserved") == 0
    assert (run.number("num_starts") or 0) > 12  # so that endpoints had to make way


@pytest.mark.parametrize("num_seeds", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_run_is_the_same_again_but_for_the_time_that_it_takes(num_seeds: int) -> None:
    """Also in another process, whose sets of texts have another order."""
    script = (
        "from tests.unit.scheduler.simulation.test_simulation import repeatable_text;"
        f"print(repeatable_text({num_seeds}))"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1] == repeatable_text(num_seeds).strip()


def repeatable_text(num_seeds: int) -> str:
    scenario, seeds = busy_scenario(), list(range(1, num_seeds + 1))
    content = document(scenario, Batch(scenario, list(StartMode), seeds).run())
    del content["wall"]
    return as_json(content)
