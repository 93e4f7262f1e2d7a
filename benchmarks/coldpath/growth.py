"""How the wait grows: straight lines through medians."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy

from benchmarks.coldpath.samples import Samples
from benchmarks.coldpath.variants import FAST_NIC, GROWTH_BYTES, GROWTH_STAGES


@dataclass(frozen=True)
class Line:
    """y = constant + slope * x, by least squares."""

    slope: float
    constant: float
    r2: float
    num_points: int

    @classmethod
    def through(cls, xs: Sequence[float], ys: Sequence[float]) -> "Line":
        slope, constant = numpy.polyfit(xs, ys, 1)
        residuals = numpy.asarray(ys) - (slope * numpy.asarray(xs) + constant)
        spread = numpy.asarray(ys) - numpy.mean(ys)
        r2 = 1 - float(residuals @ residuals) / float(spread @ spread)
        return cls(float(slope), float(constant), r2, len(xs))


@dataclass(frozen=True)
class Point:
    variant: str
    x_s: float  # bytes / (stages * rate)
    largest_stage_s: float  # the same of the largest stage: no layer is cut, nor the embedding
    ttft_s: float
    fetch_s: float

    @property
    def rest_s(self) -> float:
        return self.ttft_s - self.fetch_s


def growth(samples: Samples) -> dict[str, object]:
    """Over bytes/(s*b) and over the largest stage's time on its link: with the model's size in
    four stages, and with the number of stages."""
    by_size = [_point(samples, f"growth_{model}", 4) for model in GROWTH_BYTES]
    by_stages = [_point(samples, f"growth_s{count}", count) for count in GROWTH_STAGES]
    series = {"model_size": by_size, "stages": by_stages}
    return {name: _fits([p for p in points if p is not None]) for name, points in series.items()}


def _point(samples: Samples, variant: str, num_stages: int) -> Point | None:
    sample = samples.middle(variant)
    if sample is None:
        return None
    x_s = sample.weight_bytes / (num_stages * FAST_NIC)
    largest_s = sample.largest_stage_bytes / FAST_NIC
    # The path's length: a random model's first token need not be text that a client can be sent.
    ttft_s = sum(part.seconds for part in sample.path)
    return Point(variant, x_s, largest_s, ttft_s, sample.fetch_s)


def _fits(points: Sequence[Point]) -> dict[str, object]:
    """Slopes of 1 say that the wait is the network's and nothing else grows with it."""
    if len(points) < 3:
        return {"points": [asdict(point) for point in points]}
    return {
        "points": [asdict(point) for point in points],
        "over_even_stages": _lines([point.x_s for point in points], points),
        "over_largest_stage": _lines([point.largest_stage_s for point in points], points),
    }


def _lines(xs: Sequence[float], points: Sequence[Point]) -> dict[str, object]:
    return {
        "ttft_s": asdict(Line.through(xs, [point.ttft_s for point in points])),
        "fetch_s": asdict(Line.through(xs, [point.fetch_s for point in points])),
        "rest_s": asdict(Line.through(xs, [point.rest_s for point in points])),
    }
