"""What became of a replayed trace: requests, cold starts, and what was measured. As JSON, too."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class RequestRecord:
    """`index`: its place in the trace. Times are those of its gateway, None: it had none."""

    index: int
    model: str
    arrived_at_s: float  # since the trace began
    ttft_s: float | None
    tpot_s: float | None
    ttft_slo_s: float
    tpot_slo_s: float
    is_cold: bool  # it waited for an endpoint that started
    num_stages: int | None  # of the endpoint that served it
    num_prompt_tokens: int
    num_output_tokens: int
    client_ttft_s: float | None = None  # until the first text, as the client saw it
    error: str | None = None

    @property
    def is_served(self) -> bool:
        return self.error is None and self.ttft_s is not None

    @property
    def ended_at_s(self) -> float:
        """As far as its times say."""
        rest_s = (self.tpot_s or 0.0) * max(0, self.num_output_tokens - 1)
        return self.arrived_at_s + (self.ttft_s or 0.0) + rest_s

    @property
    def has_met_ttft(self) -> bool:
        return self.is_served and self.ttft_s is not None and self.ttft_s <= self.ttft_slo_s

    @property
    def has_met_tpot(self) -> bool:
        """An answer of one token has no time per token."""
        return self.is_served and (self.tpot_s is None or self.tpot_s <= self.tpot_slo_s)


@dataclass(frozen=True)
class StepRecord:
    """Seconds since the start was decided; `actor` as in the timeline."""

    actor: str
    name: str
    node_id: str | None
    stage_index: int | None
    start_s: float
    end_s: float | None
    detail: str = ""


@dataclass(frozen=True)
class StartRecord:
    model: str
    at_s: float  # when it was decided, since the trace began
    num_stages: int
    weight_bytes: int
    bytes_from_cache: int
    # Of the request that it was for; None: it was for nobody.
    num_prompt_tokens: int | None
    ttft_s: float | None
    predicted_ttft_s: float | None
    measured_ttft_s: float | None
    steps: tuple[StepRecord, ...]


@dataclass(frozen=True)
class MeasuredValues:
    """A row of what the scheduler has measured, oldest first; `model` is its name."""

    quantity: str
    node_id: str
    model: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class ModelFacts:
    """Of an imported model, as its manifest says."""

    name: str
    num_layers: int
    weight_bytes: int
    ends_bytes: int  # embedding, final norm and head


@dataclass(frozen=True)
class RunRecord:
    """`device_byte_s`: device memory x time, by the product's own accounting. `run`: what was
    asked for, and of which code and machine it is."""

    run: Mapping[str, Any]
    requests: tuple[RequestRecord, ...]
    starts: tuple[StartRecord, ...]
    device_byte_s: float
    measured: tuple[MeasuredValues, ...] = ()
    launch_s: Mapping[str, float] = field(default_factory=dict)  # of processes, by node
    models: tuple[ModelFacts, ...] = ()
    load_average: float = 0.0

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        return cls(
            run=body["run"],
            requests=tuple(RequestRecord(**item) for item in body["requests"]),
            starts=tuple(_start(item) for item in body["starts"]),
            device_byte_s=body["device_byte_s"],
            measured=tuple(
                MeasuredValues(**{**item, "values": tuple(item["values"])})
                for item in body["measured"]
            ),
            launch_s=body["launch_s"],
            models=tuple(ModelFacts(**item) for item in body["models"]),
            load_average=body["load_average"],
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.parse(json.loads(path.read_text()))


def share(items: Sequence[bool]) -> float:
    """Of those that are true; 0 without any."""
    return sum(items) / len(items) if items else 0.0


def _start(body: Mapping[str, Any]) -> StartRecord:
    steps = tuple(StepRecord(**step) for step in body["steps"])
    return StartRecord(**{**body, "steps": steps})
