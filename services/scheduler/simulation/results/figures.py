"""What a run came to, as figures: times, SLOs met, memory x time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.scheduler.simulation.results.costs import Costs
from services.scheduler.simulation.results.recorder import Recorder
from services.scheduler.simulation.scenario.models import ModelGroup

Floats = NDArray[np.float64]
Json = dict[str, object]

_GIGA = 1e9
_DIGITS = 9  # after the point: what differs beyond says nothing
QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Columns of the requests of one group of models. A request that was not served has missed
    both SLOs; an answer of one token has no time per token, and meets that one."""

    group: ModelGroup
    ttft_s: Floats
    tpot_s: Floats
    are_cold: NDArray[np.bool_]

    @property
    def has_met_ttft(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.ttft_s <= self.group.ttft_slo_s
        return found

    @property
    def has_met_tpot(self) -> NDArray[np.bool_]:
        is_slow = self.tpot_s > self.group.tpot_slo_s
        found: NDArray[np.bool_] = ~np.isnan(self.ttft_s) & ~is_slow
        return found

    def select(self, rows: NDArray[np.bool_]) -> "Outcomes":
        return Outcomes(self.group, self.ttft_s[rows], self.tpot_s[rows], self.are_cold[rows])


def outcomes_by_group(recorder: Recorder, groups: tuple[ModelGroup, ...]) -> dict[str, Outcomes]:
    """Those that were asked for."""
    names = np.array(recorder.groups, dtype=object)
    ttft_s, tpot_s = np.array(recorder.ttft_s), np.array(recorder.tpot_s)
    are_cold = np.array(recorder.are_cold, dtype=np.bool_)
    found = {}
    for group in groups:
        own = names == group.name
        if own.any():
            found[group.name] = Outcomes(group, ttft_s[own], tpot_s[own], are_cold[own])
    return found


def figures_of(outcomes: Mapping[str, Outcomes], byte_s: float) -> Json:
    """Of some requests together, and the device memory x time that they took."""
    parts = list(outcomes.values())
    ttft_s = np.concatenate([part.ttft_s for part in parts])
    tpot_s = np.concatenate([part.tpot_s for part in parts])
    are_cold = np.concatenate([part.are_cold for part in parts])
    met_ttft = np.concatenate([part.has_met_ttft for part in parts])
    met_tpot = np.concatenate([part.has_met_tpot for part in parts])
    return {
        "num_requests": len(ttft_s),
        "num_cold_requests": int(are_cold.sum()),
        "num_unserved": int(np.isnan(ttft_s).sum()),
        "ttft_attainment": rounded(met_ttft.mean()),
        "tpot_attainment": rounded(met_tpot.mean()),
        "attainment": rounded((met_ttft & met_tpot).mean()),
        "ttft_s": distribution(ttft_s),
        "ttft_cold_s": distribution(ttft_s[are_cold]),
        "ttft_warm_s": distribution(ttft_s[~are_cold]),
        "tpot_s": distribution(tpot_s),
        "device_gb_s": rounded(byte_s / _GIGA),
    }


def figures_by_model(recorder: Recorder, outcomes: Mapping[str, Outcomes], costs: Costs) -> Json:
    groups, ids = (
        np.array(recorder.groups, dtype=object),
        np.array(recorder.model_ids, dtype=object),
    )
    found: Json = {}
    for name, of_group in outcomes.items():
        own = ids[groups == name]
        for model_id, count in sorted(Counter(own.tolist()).items()):
            part = of_group.select(own == model_id)
            found[model_id] = {
                "num_requests": count,
                "num_starts": recorder.starts_by_model[model_id],
                "ttft_attainment": rounded(part.has_met_ttft.mean()),
                "tpot_attainment": rounded(part.has_met_tpot.mean()),
                "tpot_mean_s": distribution(part.tpot_s)["mean"],
                "device_gb_s": rounded(costs.device_byte_s.get(model_id, 0.0) / _GIGA),
                "cost_gb_s": rounded(costs.of_model(model_id) / _GIGA),
            }
    return found


def distribution(values: Floats) -> dict[str, float | None]:
    """Of those that are there."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {"mean": None, **dict.fromkeys(QUANTILES)}
    quantiles = np.quantile(values, list(QUANTILES.values()))
    found = {name: rounded(value) for name, value in zip(QUANTILES, quantiles, strict=True)}
    return {"mean": rounded(values.mean()), **found}


def rounded(value: float | np.floating) -> float:
    return round(float(value), _DIGITS)
