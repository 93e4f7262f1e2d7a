"""Runs a scenario with some policies and seeds, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from libs.common.startmode import StartMode
from services.scheduler.simulation.results.report import Run, run_of
from services.scheduler.simulation.scenario.scenario import Scenario
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.workload import draw_workload

# What is being run, and how far it is, of all that is to be done; in [0, 1].
OnProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class Batch:
    """Every policy sees the same requests of a seed."""

    scenario: Scenario
    modes: Sequence[StartMode]
    seeds: Sequence[int]

    def run(self, on_progress: OnProgress = lambda words, part: None) -> list[Run]:
        """Raises SimulationError."""
        runs: list[Run] = []
        for seed in self.seeds:
            workload = draw_workload(self.scenario, seed)
            for mode in self.modes:
                simulation = Simulation(self.scenario, mode, workload)
                runs.append(self._run(simulation, seed, len(runs), on_progress))
        return runs

    def _run(
        self, simulation: Simulation, seed: int, num_done: int, on_progress: OnProgress
    ) -> Run:
        policy, num_all = simulation.mode.value, len(self.seeds) * len(self.modes)
        duration_s = self.scenario.duration_s

        def tell(now_s: float) -> None:
            part = min(1.0, now_s / duration_s)
            on_progress(f"{policy}, seed {seed}", (num_done + part) / num_all)

        began_s = perf_counter()
        simulation.run(tell)
        return run_of(simulation, policy, seed, perf_counter() - began_s)
