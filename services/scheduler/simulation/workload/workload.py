"""All requests of a run, drawn once: the same for every policy. Pure but for the trace's file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.errors import TraceError
from services.scheduler.simulation.scenario.models import ModelGroup
from services.scheduler.simulation.scenario.scenario import Scenario
from services.scheduler.simulation.scenario.traffic import ArrivalProcess, Trace
from services.scheduler.simulation.workload import arrivals, lengths
from services.scheduler.simulation.workload.model_names import ModelNames
from services.scheduler.simulation.workload.popularity import Floats, Ints, shuffled, zipf
from services.scheduler.simulation.workload.traces import TraceRow, read_trace


@dataclass(frozen=True, eq=False)
class Workload:
    """Columns, one entry for each request, in order of arrival. `models` are places in `names`."""

    names: ModelNames
    arrived_at_s: Floats
    models: Ints
    prompt_tokens: Ints
    output_tokens: Ints

    def __len__(self) -> int:
        return len(self.arrived_at_s)

    @property
    def num_distinct_models(self) -> int:
        return len(np.unique(self.models))

    def requests(self) -> Iterator[SimulatedRequest]:
        columns = (self.arrived_at_s, self.models, self.prompt_tokens, self.output_tokens)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for index, (at_s, model, num_prompt, num_output) in enumerate(rows):
            group, model_id = self.names.group_of(model).name, self.names.id_of(model)
            yield SimulatedRequest(index, group, model_id, at_s, num_prompt, num_output)


def draw_workload(scenario: Scenario, seed: int) -> Workload:
    """Raises TraceError."""
    rng, names = np.random.default_rng(seed), ModelNames(scenario.models)
    traffic = scenario.traffic
    shares = shuffled(zipf(len(names), traffic.zipf_exponent, traffic.zipf_shift), rng)
    if traffic.trace is not None:
        return _of_trace(traffic.trace, scenario.duration_s, names, shares, rng)
    at_s, models = _arrivals(scenario, shares, rng)
    if traffic.diurnal is not None:
        at_s = arrivals.with_diurnal_rate(at_s, traffic.diurnal, scenario.duration_s)
    order = np.argsort(at_s, kind="stable")
    at_s, models = at_s[order], models[order]
    prompts, outputs = _lengths(names, models, rng)
    return Workload(names, at_s, models, prompts, outputs)


def _arrivals(scenario: Scenario, shares: Floats, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """The number of requests is that of the rate, exactly. Of a Gamma process of each model, the
    number that a model has is drawn by its popularity."""
    traffic, duration_s = scenario.traffic, scenario.duration_s
    factor = 1.0 if traffic.diurnal is None else arrivals.mean_factor(traffic.diurnal, duration_s)
    num_kept = max(1, round(traffic.rate_per_s * factor * duration_s))
    count = round(num_kept * traffic.num_generated_per_kept)
    cv = 1.0 if traffic.process is ArrivalProcess.POISSON else traffic.cv
    if traffic.process is ArrivalProcess.GAMMA_PER_MODEL:
        at_s, models = _per_model(rng, count, shares, cv, duration_s)
    else:
        at_s = arrivals.given_count(rng, count, cv, duration_s)
        models = rng.choice(len(shares), count, p=shares)
    if count > num_kept:
        kept = np.sort(rng.choice(count, num_kept, replace=False))
        at_s, models = at_s[kept], models[kept]
    return at_s, models


def _per_model(
    rng: np.random.Generator, count: int, shares: Floats, cv: float, duration_s: float
) -> tuple[Floats, Ints]:
    counts = arrivals.counts_by_model(rng, count, shares)
    asked = np.flatnonzero(counts)
    own = [arrivals.given_count(rng, int(counts[model]), cv, duration_s) for model in asked]
    return np.concatenate(own), np.repeat(asked, counts[asked])


def _lengths(names: ModelNames, models: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    prompts, outputs = np.empty_like(models), np.empty_like(models)
    for group, first, last in names.ranges():
        own = np.flatnonzero((models >= first) & (models < last))
        prompts[own] = lengths.draw(rng, group.prompt, len(own))
        outputs[own] = lengths.draw(rng, group.output, len(own))
        prompts[own] = _within_context(group, prompts[own], outputs[own])
    return prompts, outputs


def _within_context(group: ModelGroup, prompts: Ints, outputs: Ints) -> Ints:
    """A prompt that leaves no room for its answer is cut, as gateways refuse it."""
    return np.maximum(1, np.minimum(prompts, group.max_context_tokens - outputs))


def _of_trace(
    trace: Trace, duration_s: float, names: ModelNames, shares: Floats, rng: np.random.Generator
) -> Workload:
    """Requests without a model get one by popularity. What comes after the duration is left out."""
    path = Path(trace.path)
    rows = [
        row for row in read_trace(path, trace.format) if row.arrived_at_s < duration_s * trace.scale
    ]
    drawn = rng.choice(len(shares), len(rows), p=shares)
    models = [
        int(drawn[i]) if row.model is None else _place(path, row, names)
        for i, row in enumerate(rows)
    ]
    at_s = np.array([row.arrived_at_s / trace.scale for row in rows])
    prompts = np.array([max(1, row.num_prompt_tokens) for row in rows], np.int64)
    outputs = np.array([max(1, row.num_output_tokens) for row in rows], np.int64)
    numbers = np.array(models, np.int64)
    for group, first, last in names.ranges():
        own = np.flatnonzero((numbers >= first) & (numbers < last))
        prompts[own] = _within_context(group, prompts[own], outputs[own])
    return Workload(names, at_s, numbers, prompts, outputs)


def _place(path: Path, row: TraceRow, names: ModelNames) -> int:
    assert row.model is not None
    place = names.place_of(row.model)
    if place is None:
        problem = f"the scenario has no model {row.model!r}; it has {names.words}"
        raise TraceError(path, 0, problem)
    return place
