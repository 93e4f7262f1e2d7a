"""The same trace in the simulator, request by request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from benchmarks.fidelity.comparison import Outcome, StartOutcome
from benchmarks.fidelity.knowledge import Values
from benchmarks.replay.record import RequestRecord
from libs.common.startmode import StartMode
from services.scheduler.simulation.scenario.scenario import Scenario
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.workload import Workload


@dataclass(frozen=True)
class SimulatedRun:
    """In the order of the trace; starts in that of their decisions."""

    requests: Sequence[Outcome]
    starts: Sequence[StartOutcome]
    device_byte_s: float


def workload_of(scenario: Scenario, requests: Sequence[RequestRecord]) -> Workload:
    """With the tokens that there really were: of a question nobody knows them before."""
    names = ModelNames(scenario.models)
    places = [names.place_of(request.model) for request in requests]
    return Workload(
        names,
        np.array([request.arrived_at_s for request in requests]),
        np.array(places, np.int64),
        np.array([max(1, request.num_prompt_tokens) for request in requests], np.int64),
        np.array([max(1, request.num_output_tokens) for request in requests], np.int64),
    )


def simulate(
    scenario: Scenario,
    mode: StartMode,
    requests: Sequence[RequestRecord],
    measured: Values | None = None,
) -> SimulatedRun:
    """`measured`: what the leader knows; None: the scenario's constants. Raises SimulationError."""
    simulation = Simulation(scenario, mode, workload_of(scenario, requests), measured)
    simulation.run()
    targets = {group.name: (group.ttft_slo_s, group.tpot_slo_s) for group in scenario.models}
    recorder = simulation.recorder
    columns = (recorder.indexes, recorder.model_ids, recorder.ttft_s, recorder.tpot_s)
    rows = zip(*columns, recorder.are_cold, strict=True)
    found = [_outcome(*row, targets) for row in rows]
    starts = [StartOutcome(s.model_id, s.at_s, s.num_stages) for s in recorder.starts]
    return SimulatedRun(
        sorted(found, key=lambda outcome: outcome.index),
        starts,
        sum(simulation.ledger.byte_s.values()),
    )


def _outcome(
    index: int,
    model: str,
    ttft_s: float,
    tpot_s: float,
    is_cold: int,
    targets: Mapping[str, tuple[float, float]],
) -> Outcome:
    ttft_slo_s, tpot_slo_s = targets[model]
    return Outcome(
        index,
        model,
        None if isnan(ttft_s) else ttft_s,
        bool(is_cold),
        has_met_ttft=ttft_s <= ttft_slo_s,
        has_met_tpot=not isnan(ttft_s) and not tpot_s > tpot_slo_s,
        tpot_s=None if isnan(tpot_s) else tpot_s,
    )
