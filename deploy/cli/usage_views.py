"""What the commands read of the API's answers about usage. Other fields are ignored."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class MemoryTime(_View):
    starting_byte_s: float
    busy_byte_s: float
    idle_byte_s: float
    total_byte_s: float


class SloCounts(_View):
    num_met: int
    num_missed: int
    attainment: float | None
    missed: dict[str, int]


class Usage(_View):
    memory: MemoryTime
    slo: SloCounts


class ModelUse(_View):
    last_hour: Usage
    last_day: Usage


class ModelUsage(Usage):
    tenant: str
    model_id: str
    model: str | None


class UsageReport(_View):
    since: datetime
    models: tuple[ModelUsage, ...]


class SloTime(_View):
    took_ms: float | None
    slo_ms: int | None


class Request(_View):
    id: str
    model_id: str
    model: str | None
    state: str
    outcome: str | None
    arrived_at: datetime
    ttft: SloTime
    tpot: SloTime
    is_slo_met: bool | None
    slo_miss: str | None
