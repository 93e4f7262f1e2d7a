"""Raw figures in a file that grows, so that a measurement goes on where it was interrupted."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.machine import code_digest, processor


@dataclass(frozen=True)
class PathPart:
    """A stretch of a start's critical path."""

    actor: str
    step: str
    share: str
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One start. Times are in seconds as the client saw them, unless they name another clock."""

    variant: str
    ttft_s: float  # request sent to first text
    again_ttft_s: float | None = None  # of the next request, to the endpoint that serves now
    weight_bytes: int = 0
    largest_stage_bytes: int = 0  # of the best contiguous split over equal nodes
    fetched_bytes: int = 0
    fetch_s: float = 0.0  # first fetch's beginning to the last one's end, by the nodes' clocks
    path: tuple[PathPart, ...] = ()
    code: str = field(default_factory=code_digest)
    processor: str = field(default_factory=processor)
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])
    measured_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat("T", "seconds"))

    @property
    def explained(self) -> float:
        """How much of the time the steps of the critical path account for."""
        return sum(part.seconds for part in self.path) / self.ttft_s


class Samples:
    """Of all variants, in `path`. Only those of this code and this kind of processor count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, list[Sample]] = {}
        if path.exists():
            bodies = [json.loads(line) for line in path.read_text().splitlines()]
            here = (code_digest(), processor())
            for body in bodies:
                if (body.get("code"), body.get("processor")) == here:
                    self._keep(_sample(body))

    def add(self, samples: Iterable[Sample]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for sample in samples:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(sample)) + "\n")
            self._keep(sample)

    def of(self, variant: str) -> list[Sample]:
        return self._found.get(variant, [])

    def as_json(self) -> dict[str, list[dict[str, object]]]:
        return {name: [asdict(sample) for sample in found] for name, found in self._found.items()}

    def median_ttft_s(self, variant: str) -> float | None:
        return median(s.ttft_s for s in found) if (found := self.of(variant)) else None

    def middle(self, variant: str) -> Sample | None:
        """The sample whose time is the median, or just above it."""
        found = sorted(self.of(variant), key=lambda sample: sample.ttft_s)
        return found[len(found) // 2] if found else None

    def _keep(self, sample: Sample) -> None:
        self._found.setdefault(sample.variant, []).append(sample)


def _sample(body: dict[str, object]) -> Sample:
    path = tuple(PathPart(**part) for part in body.pop("path"))  # type: ignore[attr-defined]
    return Sample(**body, path=path)  # type: ignore[arg-type]
