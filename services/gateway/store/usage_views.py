"""What models cost and how they kept their SLOs: one dataclass per part of an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from libs.common.states import SloMiss


@dataclass(frozen=True)
class MemoryTime:
    """Device memory x time, in byte-seconds: what was reserved, for as long as it was."""

    starting_byte_s: float  # until the endpoint was ready
    busy_byte_s: float
    idle_byte_s: float  # ready, without a request
    total_byte_s: float


@dataclass(frozen=True)
class SloCounts:
    """Requests that ended. Those of which nobody can tell are in neither number."""

    num_met: int
    num_missed: int
    attainment: float | None  # of those in either; None without any
    missed: Mapping[SloMiss, int]  # by reason


@dataclass(frozen=True)
class Usage:
    memory: MemoryTime
    slo: SloCounts


@dataclass(frozen=True)
class ModelUsage(Usage):
    tenant: str
    model_id: str
    model: str | None  # None: its row is forgotten


@dataclass(frozen=True)
class UsageReport:
    """`since`: the beginning of an hour. What runs counts up to `until`."""

    since: datetime
    until: datetime
    models: tuple[ModelUsage, ...]


@dataclass(frozen=True)
class DayUsage:
    tenant: str
    model_id: str
    model: str | None
    day: date  # UTC
    num_requests: int
    num_prompt_tokens: int
    num_generated_tokens: int
    memory: MemoryTime


def memory_time(starting_byte_s: float, busy_byte_s: float, idle_byte_s: float) -> MemoryTime:
    total_byte_s = starting_byte_s + busy_byte_s + idle_byte_s
    return MemoryTime(starting_byte_s, busy_byte_s, idle_byte_s, total_byte_s)


def slo_counts(num_met: int, missed: Mapping[SloMiss, int]) -> SloCounts:
    num_missed = sum(missed.values())
    num_all = num_met + num_missed
    attainment = num_met / num_all if num_all else None
    return SloCounts(num_met, num_missed, attainment, {k: n for k, n in missed.items() if n})
