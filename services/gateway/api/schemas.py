"""Bodies of the project's own API: what a client sends to register a model or make a key."""

from datetime import datetime
from typing import Annotated, Any, Literal

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from libs.common.states import EngineChoice, ModelState
from services.gateway.feasibility import MIN_CONTEXT_TOKENS
from services.gateway.store.keys import KeyInfo
from services.gateway.store.model_entry import MODEL_NAME_PATTERN, ModelEntry
from services.gateway.store.usage_views import Usage
from services.gateway.store.views import PrefetchView
from services.gateway.text.validity import StoredText

ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME_PATTERN)]
# Whether it lies under the allowed root is the importing fetcher's to say: it can see the disk.
Source = Annotated[StoredText, StringConstraints(pattern=r"^/", max_length=4096)]
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ContextTokens = Annotated[int, Field(ge=MIN_CONTEXT_TOKENS, le=2**31 - 1)]
FullWorkers = Annotated[int, Field(ge=1, le=8)]
Engine = Annotated[EngineChoice, Field(strict=False)]  # JSON has no enums
ChatTemplate = Annotated[StoredText, StringConstraints(min_length=1, max_length=2**16)]
_TIB = 2**40
AUTO: Literal["auto"] = "auto"
KEEP_ALIVE_S = 300.0
KeepAlive = Annotated[float, Field(ge=0, le=7 * 86_400)] | Literal["auto"]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Slo(_Body):
    """What an answer should keep to: time to the first token, and time per token after it."""

    ttft_ms: int = Field(default=10_000, ge=1, le=3_600_000)
    tpot_ms: int = Field(default=200, ge=1, le=600_000)


class SloChange(_Body):
    ttft_ms: int | None = Field(default=None, ge=1, le=3_600_000)
    tpot_ms: int | None = Field(default=None, ge=1, le=600_000)


class NewModel(_Body):
    name: ModelName
    source: Source = Field(description="Path of a folder of safetensors, or of a .gguf file")
    slo: Slo = Slo()
    keep_alive_s: KeepAlive = Field(
        default=KEEP_ALIVE_S,
        description="From ready, while idle; auto: as its own requests have shown",
    )
    min_pipeline_size: int = Field(
        default=1, ge=1, le=8, description="Stages, where there are nodes for so many"
    )
    max_pipeline_size: int = Field(default=4, ge=1, le=8)
    full_memory_workers: FullWorkers | None = Field(
        default=None,
        description="Of a pipeline, with memory for the whole model; null: the planner decides",
    )
    max_queue: int = Field(default=100, ge=1, le=100_000, description="Waiting; one more gets 429")
    max_slots: int = Field(
        default=16, ge=1, le=1024, description="Requests at once on one endpoint"
    )
    max_endpoints: int = Field(default=1, ge=1, le=1024)
    min_endpoints: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Kept whoever asks, within max_endpoints; more than 0: operators only",
    )
    max_context_tokens: ContextTokens | None = Field(
        default=None, description="None: as the checkpoint says"
    )
    kv_cache_bytes: int | None = Field(
        default=None, ge=1, le=_TIB, description="None: by slots and context"
    )
    engine: Engine = Field(
        default=EngineChoice.AUTO, description="auto: the fastest that is there and supports it"
    )
    chat_template: ChatTemplate | None = Field(
        default=None, description="In Jinja, instead of the checkpoint's; None: the checkpoint's"
    )
    public: bool = Field(
        default=False,
        description="Its units may be shared with other tenants; part of how they are stored",
    )

    def columns(self) -> dict[str, Any]:
        values = self.model_dump(exclude={"slo", "public"})
        return {
            "keep_alive_s": KEEP_ALIVE_S,  # unused beside `auto`
            **_with_keep_alive(_with_digest(values)),
            "slo_ttft_ms": self.slo.ttft_ms,
            "slo_tpot_ms": self.slo.tpot_ms,
            "is_public": self.public,
        }


class ModelChange(_Body):
    """Only what is given changes; null means "by default" for the last four."""

    slo: SloChange | None = None
    keep_alive_s: KeepAlive | None = None
    min_pipeline_size: int | None = Field(default=None, ge=1, le=8)
    max_pipeline_size: int | None = Field(default=None, ge=1, le=8)
    max_queue: int | None = Field(default=None, ge=1, le=100_000)
    max_slots: int | None = Field(default=None, ge=1, le=1024)
    max_endpoints: int | None = Field(default=None, ge=1, le=1024)
    min_endpoints: int | None = Field(
        default=None, ge=0, le=1024, description="Only operators may raise it"
    )
    engine: Engine | None = None
    public: bool | None = Field(default=None, description="As it was registered; cannot change")
    full_memory_workers: FullWorkers | None = None
    max_context_tokens: ContextTokens | None = None
    kv_cache_bytes: int | None = Field(default=None, ge=1, le=_TIB)
    chat_template: ChatTemplate | None = None

    def columns(self) -> dict[str, Any]:
        nullable = ("full_memory_workers", "max_context_tokens", "kv_cache_bytes", "chat_template")
        given = self.model_dump(exclude_unset=True, exclude={"slo", "public"})
        values = {k: v for k, v in given.items() if v is not None or k in nullable}
        slo = SloChange() if self.slo is None else self.slo
        targets = {"slo_ttft_ms": slo.ttft_ms, "slo_tpot_ms": slo.tpot_ms}
        values = _with_keep_alive(_with_digest(values))
        return values | {k: v for k, v in targets.items() if v is not None}


def _with_keep_alive(values: dict[str, Any]) -> dict[str, Any]:
    """A figure that was there before stays beside `auto`, and is not used."""
    kept = values.get("keep_alive_s")
    if kept is None:
        return values
    if kept != AUTO:
        return {**values, "is_keep_alive_auto": False}
    others = {name: value for name, value in values.items() if name != "keep_alive_s"}
    return {**others, "is_keep_alive_auto": True}


def _with_digest(values: dict[str, Any]) -> dict[str, Any]:
    if "chat_template" not in values:
        return values
    template = values["chat_template"]
    digest = None if template is None else blake3(template.encode()).hexdigest()
    return {**values, "chat_template_digest": digest}


class ModelView(BaseModel):
    id: str
    name: str
    source: str
    state: ModelState
    cause: str | None
    bytes_done: int
    bytes_total: int
    slo: Slo
    keep_alive_s: float | Literal["auto"]
    min_pipeline_size: int
    max_pipeline_size: int
    full_memory_workers: int | None
    max_queue: int
    max_slots: int
    max_endpoints: int
    min_endpoints: int
    max_context_tokens: int | None
    kv_cache_bytes: int | None
    engine: EngineChoice
    chat_template_digest: str | None = Field(description="BLAKE3 of the one that it was given")
    public: bool
    manifest_digest: str | None
    architecture: str | None
    dtype: str | None
    num_layers: int | None
    weight_bytes: int | None
    backoff_until: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, entry: ModelEntry) -> "ModelView":
        summary = entry.summary
        own = {name: getattr(entry, name) for name in cls.model_fields if hasattr(entry, name)}
        if entry.is_keep_alive_auto:
            own["keep_alive_s"] = AUTO
        return cls(
            **own,
            id=entry.model_id,
            slo=Slo(ttft_ms=entry.slo_ttft_ms, tpot_ms=entry.slo_tpot_ms),
            public=entry.is_public,
            architecture=summary.architecture if summary else None,
            dtype=summary.dtype if summary else None,
            num_layers=summary.num_layers if summary else None,
            weight_bytes=summary.weight_bytes if summary else None,
        )


class ModelUse(BaseModel):
    """Up to now, from the beginning of the hour one hour and 24 hours ago."""

    last_hour: Usage
    last_day: Usage


class ModelDetail(ModelView):
    usage: ModelUse | None = Field(description="null while Postgres does not answer")
    prefetches: list[PrefetchView] | None = Field(
        description="The last ten, newest first; null while Postgres does not answer"
    )


class NewKey(_Body):
    name: Annotated[StoredText, StringConstraints(min_length=1, max_length=100)]
    tenant: Tenant | None = Field(default=None, description="Another tenant's key: operators only")


class KeyView(BaseModel):
    id: str
    tenant: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = Field(description="To the minute; null: not used yet")

    @classmethod
    def of(cls, info: KeyInfo) -> "KeyView":
        return cls(
            id=info.key_id,
            tenant=info.tenant,
            name=info.name,
            created_at=info.created_at,
            last_used_at=info.last_used_at,
        )


class CreatedKey(KeyView):
    key: str = Field(description="Shown this once; only its hash is kept")
