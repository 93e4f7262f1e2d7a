"""Medians over runs, and by how much predictions were off. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.tradeoff.cells import NIC_BYTES_PER_S, Cell
from benchmarks.tradeoff.samples import Figures, Sample

GIGA = 1e9
# By name: what it is of the figures, in the unit that the name has in the report.
Of = Callable[[Figures], float]
FIGURES: Mapping[str, Of] = {
    "ttft_s": lambda figures: figures.ttft_s,
    "tpot_ms": lambda figures: 1000 * figures.tpot_s,
    "cost_gb_s": lambda figures: figures.cost_byte_s / GIGA,
}


@dataclass(frozen=True)
class Spread:
    """Of one figure over the runs of a cell."""

    measured: float  # the median
    least: float
    most: float
    predicted: float  # the median
    error: float  # |predicted - measured| / measured of each run; the median

    @classmethod
    def of(cls, samples: Sequence[Sample], of: Of) -> "Spread":
        measured = [of(sample.measured) for sample in samples]
        predicted = [of(sample.predicted) for sample in samples]
        return cls(
            measured=median(measured),
            least=min(measured),
            most=max(measured),
            predicted=median(predicted),
            error=median(errors(predicted, measured)),
        )


Spreads = Mapping[Cell, Mapping[str, Spread]]


def spreads(samples: Iterable[Sample]) -> Spreads:
    """By cell and figure, of the cells that were measured."""
    by_cell: dict[Cell, list[Sample]] = {}
    for sample in samples:
        by_cell.setdefault(sample.cell, []).append(sample)
    return {
        cell: {name: Spread.of(own, of) for name, of in FIGURES.items()}
        for cell, own in sorted(by_cell.items())
    }


def summary_of(samples: Sequence[Sample]) -> dict[str, float]:
    """`<figure>_error` is the median over all starts; the rest is of one cell each."""
    overall = {
        f"{_plain(name)}_error": median(
            errors([of(s.predicted) for s in samples], [of(s.measured) for s in samples])
        )
        for name, of in FIGURES.items()
        if samples
    }
    return overall | {
        key: value
        for cell, own in spreads(samples).items()
        for name, spread in own.items()
        for key, value in _entries(cell, name, spread)
    }


def cell_table(samples: Sequence[Sample]) -> list[dict[str, object]]:
    """With the least and the most of the runs, and what the network alone takes."""
    return [
        {
            "num_stages": cell.num_stages,
            "num_full": cell.num_full,
            "num_runs": sum(sample.cell == cell for sample in samples),
            "network_bound_s": bound_s(samples[0].weight_bytes, cell.num_stages),
            **{name: asdict(spread) for name, spread in own.items()},
        }
        for cell, own in spreads(samples).items()
    ]


def bound_s(weight_bytes: int, num_stages: int) -> float:
    """bytes / (s x rate): what cards alone take for equal parts."""
    return weight_bytes / (num_stages * NIC_BYTES_PER_S)


def errors(predicted: Sequence[float], measured: Sequence[float]) -> list[float]:
    """By what part of what was measured each prediction was off."""
    return [abs(p - m) / m for p, m in zip(predicted, measured, strict=True)]


def _entries(cell: Cell, name: str, spread: Spread) -> list[tuple[str, float]]:
    figure, _, unit = name.partition("_")
    start = f"{figure}_{cell.name}"
    return [
        (f"{start}_{unit}", spread.measured),
        (f"{start}_predicted_{unit}", spread.predicted),
        (f"{start}_error", spread.error),
    ]


def _plain(name: str) -> str:
    return name.partition("_")[0]
