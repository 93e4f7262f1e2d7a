"""One model as a gateway knows it."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from libs.common.bus.messages import ModelFacts
from libs.common.states import EngineChoice, ModelState

ASKABLE_STATES = (ModelState.READY, ModelState.IMPORTING)  # with a summary: a first import has none
MODEL_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"


class ModelKey(NamedTuple):
    """What a request names a model by."""

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model as the gateway knows it; `summary` is there from READY on."""

    model_id: str
    tenant: str
    name: str
    source: str
    state: ModelState
    cause: str | None
    is_public: bool
    slo_ttft_ms: int
    slo_tpot_ms: int
    keep_alive_s: float
    min_pipeline_size: int
    max_pipeline_size: int
    max_queue: int
    max_slots: int
    max_endpoints: int
    max_context_tokens: int | None
    kv_cache_bytes: int | None
    engine: EngineChoice
    chat_template_digest: str | None  # of the one it was given, if any
    bytes_done: int
    bytes_total: int
    backoff_until: datetime | None
    manifest_digest: str | None
    created_at: datetime
    updated_at: datetime
    summary: ModelFacts | None
    chat_template: str | None = None  # the one it was given, from READY on
    min_endpoints: int = 0
    is_keep_alive_auto: bool = False
    full_memory_workers: int | None = None

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.tenant, self.name)

    @property
    def can_be_asked(self) -> bool:
        """It is READY, or it was and is imported again while what lives of it serves."""
        return self.summary is not None and self.state in ASKABLE_STATES

    @property
    def context_tokens(self) -> int:
        """What prompt and answer may have together: as set, as the checkpoint allows, and as the
        KV cache holds, where the last token needs no place. Only of a model with a summary."""
        assert self.summary is not None
        limits = [self.summary.max_context_tokens]
        if self.max_context_tokens is not None:
            limits.append(self.max_context_tokens)
        if self.kv_cache_bytes is not None:
            limits.append(self.kv_cache_bytes // max(1, self.summary.kv_bytes_per_token) + 1)
        return min(limits)


@dataclass(frozen=True)
class ListedModel:
    """What OpenAI's list tells of a model."""

    name: str
    created_at: datetime
