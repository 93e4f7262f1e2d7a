"""The figures of the comparison, and whether they are as wanted. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.fidelity.comparison import MatchedStarts, Outcome, Pair

MOST_MEDIAN, MOST_P90, MOST_POINTS, LEAST_SAME_S = 0.10, 0.25, 5.0, 0.90
FLOOR_FACTOR = 1.5  # by which the median error may be above that of real against real

Summary = dict[str, float | None]

# Of the request in the run that counts as real.
KINDS: Mapping[str, Callable[[Outcome], bool]] = {
    "": lambda outcome: True,
    "_cold": lambda outcome: outcome.is_cold,
    "_warm": lambda outcome: not outcome.is_cold,
    "_cold_alone": lambda outcome: outcome.is_cold and outcome.num_stages == 1,
    "_cold_pipeline": lambda outcome: outcome.is_cold and (outcome.num_stages or 0) > 1,
    "_warm_alone": lambda outcome: not outcome.is_cold and outcome.num_stages == 1,
    "_warm_pipeline": lambda outcome: not outcome.is_cold and (outcome.num_stages or 0) > 1,
}


@dataclass(frozen=True)
class Compared:
    """`simulated`: each real run beside the simulated one; `real`: the first real run beside the
    second. Each of both runs' requests counts."""

    simulated: Sequence[Pair]
    real: Sequence[Pair]
    starts: MatchedStarts  # real and simulated
    real_starts: MatchedStarts


def summary_of(compared: Compared) -> Summary:
    found: Summary = {}
    for kind, belongs in KINDS.items():
        found |= dict(_of_kind(kind, compared, belongs))
    found |= dict(_by_stages(compared))
    points, tpot_points = _points_off(compared.simulated)
    real_points, real_tpot_points = _points_off(compared.real)
    return found | {
        "attainment_difference_points": points,
        "tpot_attainment_difference_points": tpot_points,
        "noise_floor_attainment_points": real_points,
        "noise_floor_tpot_attainment_points": real_tpot_points,
        "tpot_error_median": _quantile([p.tpot_error for p in compared.simulated], 0.5),
        "noise_floor_tpot_median": _quantile([p.tpot_error for p in compared.real], 0.5),
        "same_s_share": compared.starts.same_share,
        "noise_floor_same_s_share": compared.real_starts.same_share,
        "unmatched_starts": float(compared.starts.num_unmatched),
        "same_kind_share": _share([pair.is_of_same_kind for pair in compared.simulated]),
        "noise_floor_same_kind_share": _share([pair.is_of_same_kind for pair in compared.real]),
    }


def goals(summary: Summary) -> list[dict[str, Any]]:
    """Each with what was found. One whose value is not known is not met."""
    floor = summary["noise_floor_median"] or 0.0
    most_median = max(MOST_MEDIAN, FLOOR_FACTOR * floor)
    return [
        _at_most("ttft_error_median", summary, most_median),
        _at_most("ttft_error_p90", summary, MOST_P90),
        _at_most("attainment_difference_points", summary, MOST_POINTS),
        _at_most("tpot_attainment_difference_points", summary, MOST_POINTS),
        _at_least("same_s_share", summary, LEAST_SAME_S),
    ]


def _of_kind(
    kind: str, compared: Compared, belongs: Callable[[Outcome], bool]
) -> Iterator[tuple[str, float | None]]:
    simulated = [pair.error for pair in compared.simulated if belongs(pair.real)]
    real = [pair.error for pair in compared.real if belongs(pair.real)]
    yield f"ttft_error_median{kind}", _quantile(simulated, 0.5)
    yield f"ttft_error_p90{kind}", _quantile(simulated, 0.9)
    yield f"noise_floor_median{kind}", _quantile(real, 0.5)
    yield f"noise_floor_p90{kind}", _quantile(real, 0.9)
    yield f"num_requests{kind}", float(len(simulated))


def _by_stages(compared: Compared) -> Iterator[tuple[str, float | None]]:
    """Of cold requests."""
    sizes = {pair.real.num_stages for pair in compared.simulated if pair.real.is_cold} - {None}
    for size in sorted(size for size in sizes if size is not None):

        def belongs(outcome: Outcome, size: int = size) -> bool:
            return outcome.is_cold and outcome.num_stages == size

        yield from _of_kind(f"_cold_s{size}", compared, belongs)


def _points_off(pairs: Sequence[Pair]) -> tuple[float | None, float | None]:
    """How far the shares of requests in time are apart, in points of 100: TTFT, TPOT."""
    if not pairs:
        return None, None
    ttft = [(p.real.has_met_ttft, p.other.has_met_ttft) for p in pairs]
    tpot = [(p.real.has_met_tpot, p.other.has_met_tpot) for p in pairs]
    return _difference(ttft), _difference(tpot)


def _difference(met: Sequence[tuple[bool, bool]]) -> float:
    return abs(100 * (sum(one for one, _ in met) - sum(two for _, two in met)) / len(met))


def _quantile(values: Sequence[float | None], fraction: float) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, fraction)) if known else None


def _share(items: Sequence[bool]) -> float | None:
    return sum(items) / len(items) if items else None


def _at_most(name: str, summary: Summary, most: float) -> dict[str, Any]:
    found = summary[name]
    is_met = found is not None and found <= most
    return {"what": name, "wanted": f"<= {most:.4g}", "found": found, "is_met": is_met}


def _at_least(name: str, summary: Summary, least: float) -> dict[str, Any]:
    found = summary[name]
    is_met = found is not None and found >= least
    return {"what": name, "wanted": f">= {least:.4g}", "found": found, "is_met": is_met}
