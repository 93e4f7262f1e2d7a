"""The figures of the report, of whatever parts were measured. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.consolidation.figures import (
    Pause,
    median_interval,
    pauses,
    percentile,
)
from benchmarks.consolidation.record import SwitchRecord
from benchmarks.consolidation.samples import (
    CostRun,
    LoadingRun,
    NeighbourRun,
    SwitchRun,
    TpotPair,
)

Figures = dict[str, Any]
KEYS = (
    *("first_token_to_standalone_s", "pause_p50_ms", "pause_p99_ms"),
    *("slowdown_while_loading", "slowdown_while_loading_p99"),
    *("tpot_ratio_after", "tpot_ratio_after_ci"),
    *("kv_bytes_precopied", "kv_bytes_at_switch", "cost_saved_ratio", "neighbour_ttft_ratio"),
)
TARGETS = {
    "pause_p50_ms": "under 150",
    "pause_p99_ms": "under 400",
    "slowdown_while_loading": "at most 1.1",
    "slowdown_while_loading_p99": "at most 2",
    "tpot_ratio_after_ci": "inside 0.95 to 1.05, of at least 31 pairs",
    "neighbour_ttft_ratio": "at most 1.05, of at least 11 pairs",
}
DEFINITIONS = {
    "first_token_to_standalone_s": "from the pipeline's first token until all keys and values are "
    "on the entry, by the product's timeline; the median over switches",
    "pause_p50_ms": "of each running request, by the client's clock: the longest gap between its "
    "tokens that touches the time from the freeze to the first step of one worker, less the "
    "median of its 20 gaps before; over all requests of all switches. gap_p50_ms and gap_p99_ms "
    "in details are the whole gaps",
    "slowdown_while_loading": "median gap between tokens in a window of 6 s in which the rest of "
    "the weights is fetched and loaded, over that of the window before it on the same pipeline, "
    "over the same ratio of a pipeline that loads nothing; both kinds take turns; the median over "
    "pairs",
    "slowdown_while_loading_p99": "the ratio of the 99th percentiles of the gaps in second "
    "windows: of all that load, over all that do not",
    "tpot_ratio_after": "time per token of one answer on the worker that was a pipeline over that "
    "of the same answer on one that started alone, on another node alike; the median over pairs, "
    "each taken in a row, with the 95 % interval of the bootstrap over pairs",
    "kv_bytes_precopied": "keys and values that came before the freeze; the median over switches",
    "kv_bytes_at_switch": "those that came after it; the median over switches",
    "cost_saved_ratio": "device memory reserved x time, by the product's accounting, of the same "
    "traces with consolidation over without",
    "neighbour_ttft_ratio": "first token of a cold model whose stages share all nodes, asked while "
    "a pipeline becomes one worker, over the same beside a pipeline that stays one; the median "
    "over pairs",
}


def summary_of(
    switches: Sequence[SwitchRun],
    loading: Sequence[LoadingRun],
    tpot_pairs: Sequence[TpotPair],
    neighbours: Sequence[NeighbourRun],
    costs: Sequence[CostRun],
) -> Figures:
    """All of KEYS; None: of a part that was not measured."""
    found = (
        _of_switches(switches)
        | _of_loading(loading)
        | _of_tpot(tpot_pairs)
        | {"cost_saved_ratio": cost_ratio(costs)}
        | {"neighbour_ttft_ratio": median(r) if (r := neighbour_ratios(neighbours)) else None}
    )
    return {key: found.get(key) for key in KEYS}


def details_of(
    switches: Sequence[SwitchRun],
    loading: Sequence[LoadingRun],
    tpot_pairs: Sequence[TpotPair],
    neighbours: Sequence[NeighbourRun],
) -> Figures:
    """What the figures of the summary are made of, and how many there are."""
    found = all_pauses(switches)
    details: Figures = {
        "num_switches": len(records(switches)),
        "num_pauses": len(found),
        "num_loading_pairs": len(loading_ratios(loading)),
        "num_tpot_pairs": len(tpot_pairs),
        "num_neighbour_pairs": len(neighbour_ratios(neighbours)),
    }
    if found:
        details |= _of_pauses(found) | _of_records(records(switches))
    if ratios := neighbour_ratios(neighbours):
        details["neighbour_ttft_ratio_interval"] = asdict(median_interval(ratios))
        details["neighbour_states_after"] = sorted(r.state_after for r in neighbours if r.during)
    if ratios := loading_ratios(loading):
        details["slowdown_while_loading_interval"] = asdict(median_interval(ratios))
        own = [run.ratio for run in loading if not run.loads]
        details["second_window_without"] = median(own)
        details["num_loading_gaps"] = len(loading_gaps(loading, loads=True))
    return details


def records(switches: Sequence[SwitchRun]) -> list[SwitchRecord]:
    return [run.record for run in switches]


def all_pauses(switches: Sequence[SwitchRun]) -> list[Pause]:
    return [pause for run in switches for pause in pauses(run)]


def tpot_ratios(pairs: Sequence[TpotPair]) -> list[float]:
    return [pair.consolidated_s / pair.alone_s for pair in pairs]


def neighbour_ratios(runs: Sequence[NeighbourRun]) -> list[float]:
    """Of the pairs of which both runs are there."""
    ttft_s = {(run.index, run.during): run.ttft_s for run in runs}
    indexes = sorted({run.index for run in runs})
    return [
        ttft_s[index, True] / ttft_s[index, False]
        for index in indexes
        if (index, True) in ttft_s and (index, False) in ttft_s
    ]


def cost_ratio(runs: Sequence[CostRun]) -> float | None:
    """Of all seeds of which both runs are there."""
    byte_s = {(run.seed, run.can_consolidate): run.device_byte_s for run in runs}
    seeds = [seed for seed, can in byte_s if can and (seed, False) in byte_s]
    if not seeds:
        return None
    return sum(byte_s[s, True] for s in seeds) / sum(byte_s[s, False] for s in seeds)


def _of_switches(switches: Sequence[SwitchRun]) -> Figures:
    found, paused_s = records(switches), [p.added_s for p in all_pauses(switches)]
    if not found or not paused_s:
        return {}
    return {
        "first_token_to_standalone_s": median(r.first_token_to_standalone_s for r in found),
        "pause_p50_ms": 1000 * percentile(paused_s, 0.5),
        "pause_p99_ms": 1000 * percentile(paused_s, 0.99),
        "kv_bytes_precopied": median(r.precopied_bytes for r in found),
        "kv_bytes_at_switch": median(r.moved_bytes for r in found),
    }


def loading_ratios(runs: Sequence[LoadingRun]) -> list[float]:
    """By how much more the second window is slower where it loads; of whole pairs."""
    ratios = {(run.index, run.loads): run.ratio for run in runs}
    indexes = [index for index, loads in ratios if loads and (index, False) in ratios]
    return [ratios[index, True] / ratios[index, False] for index in sorted(indexes)]


def loading_gaps(runs: Sequence[LoadingRun], *, loads: bool) -> list[float]:
    """In the second windows of all runs of that kind."""
    return [gap_s for run in runs if run.loads is loads for gap_s in run.then_s]


def _of_loading(runs: Sequence[LoadingRun]) -> Figures:
    ratios = loading_ratios(runs)
    if not ratios:
        return {}
    during_s, without_s = (loading_gaps(runs, loads=loads) for loads in (True, False))
    return {
        "slowdown_while_loading": median(ratios),
        "slowdown_while_loading_p99": percentile(during_s, 0.99) / percentile(without_s, 0.99),
    }


def _of_tpot(pairs: Sequence[TpotPair]) -> Figures:
    if not pairs:
        return {}
    found = median_interval(tpot_ratios(pairs))
    return {"tpot_ratio_after": found.value, "tpot_ratio_after_ci": [found.low, found.high]}


def _of_pauses(found: Sequence[Pause]) -> Figures:
    gap_s = [pause.gap_s for pause in found]
    return {
        "gap_p50_ms": 1000 * percentile(gap_s, 0.5),
        "gap_p99_ms": 1000 * percentile(gap_s, 0.99),
        "ordinary_gap_ms": 1000 * median(pause.ordinary_s for pause in found),
        "num_context_tokens": median(pause.num_context_tokens for pause in found),
    }


def _of_records(found: Sequence[SwitchRecord]) -> Figures:
    took_s: Mapping[str, list[float]] = {
        "load": [r.loaded_at_s - r.loading_at_s for r in found],
        "drain": [r.drained_at_s - r.frozen_at_s for r in found],
        "move": [r.moved_at_s - r.drained_at_s for r in found],
        "first_step": [r.stepped_at_s - r.moved_at_s for r in found],
    }
    return {f"{name}_ms": 1000 * median(values) for name, values in took_s.items()} | {
        "num_moved": sum(r.num_moved for r in found),
        "num_recomputed": sum(r.num_recomputed for r in found),
    }
