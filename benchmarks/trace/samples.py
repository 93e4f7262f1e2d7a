"""Runs in a file that grows, so that a measurement goes on where it was interrupted."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.replay.record import RunRecord, share

_GIGA = 1e9


@dataclass(frozen=True)
class Sample:
    """A policy on the trace of a seed. `run`: what was asked for, and of which code and machine."""

    policy: str
    seed: int
    run: Mapping[str, Any]
    num_requests: int
    num_cold: int
    num_starts: int
    num_unserved: int
    ttft_attainment: float
    tpot_attainment: float
    attainment: float  # of both
    cost_gb_s: float  # device memory x time, per request
    load_average: float
    requests: list[dict[str, Any]]
    starts: list[dict[str, Any]]  # without their steps


@dataclass
class Samples:
    """Of those in `path` such count as were asked for in the same way, of the same code and on the
    same kind of processor."""

    path: Path
    found: list[Sample] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Samples":
        lines = path.read_text().splitlines() if path.exists() else []
        return cls(path, [Sample(**json.loads(line)) for line in lines])

    def of(self, wanted: Mapping[str, Any]) -> Sample | None:
        return next((sample for sample in self.found if sample.run == wanted), None)

    def add(self, sample: Sample) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
        self.found.append(sample)


def sample_of(record: RunRecord) -> Sample:
    requests = record.requests
    return Sample(
        policy=record.run["mode"],
        seed=record.run["seed"],
        run=record.run,
        num_requests=len(requests),
        num_cold=sum(request.is_cold for request in requests),
        num_starts=len(record.starts),
        num_unserved=sum(not request.is_served for request in requests),
        ttft_attainment=share([request.has_met_ttft for request in requests]),
        tpot_attainment=share([request.has_met_tpot for request in requests]),
        attainment=share([r.has_met_ttft and r.has_met_tpot for r in requests]),
        cost_gb_s=record.device_byte_s / _GIGA / max(1, len(requests)),
        load_average=record.load_average,
        requests=[asdict(request) for request in requests],
        starts=[
            {key: value for key, value in asdict(start).items() if key != "steps"}
            for start in record.starts
        ],
    )
