"""How the wait grows: straight lines through medians."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy

from benchmarks.coldpath.samples import Sample, Samples
from benchmarks.coldpath.variants import (
    FAST_NIC,
    GROWTH_BY_SIZE,
    GROWTH_BY_STAGES,
    Variant,
)


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
    num_stages: int
    weight_bytes: int
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
    series = {"model_size": GROWTH_BY_SIZE, "stages": GROWTH_BY_STAGES}
    return {name: _fits(points(samples, variants)) for name, variants in series.items()}


def points(samples: Samples, variants: Sequence[Variant]) -> list[Point]:
    """Of those that were measured: the run whose time is the median."""
    found = ((variant, samples.middle(variant.name)) for variant in variants)
    return [_point(variant, sample) for variant, sample in found if sample is not None]


def _point(variant: Variant, sample: Sample) -> Point:
    x_s = sample.weight_bytes / (variant.num_stages * FAST_NIC)
    largest_s = sample.largest_stage_bytes / FAST_NIC
    # The path's length: a random model's first token need not be text that a client can be sent.
    ttft_s = sum(part.seconds for part in sample.path)
    sizes = (variant.num_stages, sample.weight_bytes)
    return Point(variant.name, *sizes, x_s, largest_s, ttft_s, sample.fetch_s)


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
