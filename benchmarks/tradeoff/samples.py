"""Raw figures in a file that grows, so that a measurement goes on where it was interrupted."""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import code_digest, processor
from benchmarks.tradeoff.cells import Cell


@dataclass(frozen=True)
class Figures:
    ttft_s: float
    tpot_s: float
    cost_byte_s: float  # device memory x time


@dataclass(frozen=True)
class Sample:
    """One cold start. `measured`: times by the client's clock, cost by the product's accounting,
    from the plan until the last worker was gone. `predicted`: as the start's row has it."""

    num_stages: int
    num_full: int
    predicted: Figures
    measured: Figures
    weight_bytes: int
    fetched_bytes: int
    num_tokens: int  # of the answer
    recorded_ttft_s: float  # by the product's own clocks, as is the next one
    recorded_tpot_s: float | None
    correction: float  # that the predicted time to the first token was multiplied by
    byte_s: dict[str, float]  # the measured cost: starting, busy, idle
    code: str = field(default_factory=code_digest)
    processor: str = field(default_factory=processor)
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])
    measured_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat("T", "seconds"))

    @property
    def cell(self) -> Cell:
        return Cell(self.num_stages, self.num_full)


class Samples:
    """In `path`. Only those of this code and this kind of processor count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[Sample] = []
        if path.exists():
            here = (code_digest(), processor())
            bodies = [json.loads(line) for line in path.read_text().splitlines()]
            self._found = [_sample(b) for b in bodies if (b["code"], b["processor"]) == here]

    def add(self, sample: Sample) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
        self._found.append(sample)

    def of(self, cell: Cell) -> list[Sample]:
        return [sample for sample in self._found if sample.cell == cell]

    @property
    def all(self) -> tuple[Sample, ...]:
        return tuple(self._found)


def _sample(body: dict[str, Any]) -> Sample:
    predicted, measured = Figures(**body.pop("predicted")), Figures(**body.pop("measured"))
    return Sample(**body, predicted=predicted, measured=measured)
