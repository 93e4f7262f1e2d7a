"""Raw figures in a file that grows: what was measured is kept whatever becomes of a later part."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.consolidation.record import SwitchRecord
from benchmarks.machine import code_digest, processor


class Arrival(NamedTuple):
    """A chunk of a stream; in JSON a list of two."""

    at_s: float
    num_tokens: int  # of the answer so far


@dataclass(frozen=True)
class StreamSample:
    num_prompt_tokens: int
    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True)
class SwitchRun:
    """Streams of one pipeline, and how it became one worker meanwhile."""

    index: int
    streams: tuple[StreamSample, ...]
    record: SwitchRecord

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> "SwitchRun":
        return cls(
            index=body["index"],
            streams=tuple(
                StreamSample(s["num_prompt_tokens"], tuple(Arrival(*a) for a in s["arrivals"]))
                for s in body["streams"]
            ),
            record=SwitchRecord(**body["record"]),
        )


@dataclass(frozen=True)
class LoadingRun:
    """Gaps between tokens of one pipeline's streams in two windows. `loads`: in the second one the
    rest of the weights is fetched and loaded."""

    index: int  # of its pair
    loads: bool
    before_s: tuple[float, ...]
    then_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return median(self.then_s) / median(self.before_s)

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> "LoadingRun":
        return cls(body["index"], body["loads"], tuple(body["before_s"]), tuple(body["then_s"]))


@dataclass(frozen=True)
class TpotPair:
    """One answer of each, alone on the machine, one after the other."""

    stack: int
    index: int
    is_consolidated_first: bool
    consolidated_s: float  # per token
    alone_s: float
    consolidated_node: str
    alone_node: str


@dataclass(frozen=True)
class NeighbourRun:
    index: int  # of its pair
    during: bool  # a consolidation was under way when it was asked for
    ttft_s: float
    num_stages: int
    state_after: str  # of the endpoint beside it, when its first token came


@dataclass(frozen=True)
class CostRun:
    seed: int
    minutes: float
    can_consolidate: bool
    device_byte_s: float
    num_requests: int
    num_unserved: int
    num_starts: int
    ttft_attainment: float
    tpot_attainment: float


Body = SwitchRun | LoadingRun | TpotPair | NeighbourRun | CostRun
PARSERS: Mapping[str, Callable[[Mapping[str, Any]], Body]] = {
    "pause": SwitchRun.parse,
    "loading": LoadingRun.parse,
    "tpot": lambda body: TpotPair(**body),
    "neighbour": lambda body: NeighbourRun(**body),
    "cost": lambda body: CostRun(**body),
}
PARTS = tuple(PARSERS)


@dataclass(frozen=True)
class Sample:
    part: str
    body: Body
    code: str = field(default_factory=code_digest)
    processor: str = field(default_factory=processor)
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])
    measured_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat("T", "seconds"))

    @classmethod
    def parse(cls, line: Mapping[str, Any]) -> "Sample":
        return cls(**{**line, "body": PARSERS[line["part"]](line["body"])})


class Samples:
    """In `path`. Only those of this code and this kind of processor count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        here = (code_digest(), processor())
        bodies = [json.loads(line) for line in lines]
        self.all = [Sample.parse(b) for b in bodies if (b["code"], b["processor"]) == here]

    def add(self, part: str, body: Body) -> None:
        sample = Sample(part, body)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
        self.all.append(sample)

    def forget(self, parts: Collection[str]) -> None:
        """Those of these parts. What other code made goes, too."""
        self.all = [sample for sample in self.all if sample.part not in parts]
        if self._path.exists():
            lines = [json.dumps(asdict(sample)) + "\n" for sample in self.all]
            self._path.write_text("".join(lines))

    @property
    def switches(self) -> list[SwitchRun]:
        return [s.body for s in self.all if isinstance(s.body, SwitchRun)]

    @property
    def loading(self) -> list[LoadingRun]:
        return [s.body for s in self.all if isinstance(s.body, LoadingRun)]

    @property
    def tpot_pairs(self) -> list[TpotPair]:
        return [s.body for s in self.all if isinstance(s.body, TpotPair)]

    @property
    def neighbours(self) -> list[NeighbourRun]:
        return [s.body for s in self.all if isinstance(s.body, NeighbourRun)]

    def costs(self, minutes: float) -> list[CostRun]:
        """Of traces of that length: others are no better or worse, but they are others."""
        found = [s.body for s in self.all if isinstance(s.body, CostRun)]
        return [run for run in found if run.minutes == minutes]
