"""How many bytes a model needs, on devices and in host caches. Pure."""

from libs.common.bus.messages import ModelSummary, UnitSummary
from libs.common.engines import LEAST_WORKER_BYTES, PRIORS
from libs.common.states import EngineKind
from libs.common.weights.manifest import CHUNK_SIZE_BYTES
from libs.common.weights.unitheader import header_bytes
from services.scheduler.policy.cluster import Model

KV_TOKENS_PER_SLOT = 512  # what a request holds on average, if nobody says otherwise


def context_tokens(model: Model, summary: ModelSummary) -> int:
    """The longest sequence: the model's own limit, never beyond what the checkpoint allows or the
    KV cache holds. Its last token is never an input and needs no place there."""
    limits = [summary.max_context_tokens]
    if model.max_context_tokens is not None:
        limits.append(model.max_context_tokens)
    if model.kv_cache_bytes is not None:
        limits.append(model.kv_cache_bytes // max(1, summary.kv_bytes_per_token) + 1)
    return min(limits)


def kv_budget_bytes(model: Model, summary: ModelSummary) -> int:
    """KV cache of the whole model: as registered, or room for one full context at least."""
    if model.kv_cache_bytes is not None:
        return model.kv_cache_bytes
    tokens = max(context_tokens(model, summary), model.max_slots * KV_TOKENS_PER_SLOT)
    return tokens * summary.kv_bytes_per_token


def kv_tokens(model: Model, summary: ModelSummary) -> int:
    """Tokens that the KV budget has room for; the same on every stage."""
    return kv_budget_bytes(model, summary) // max(1, summary.kv_bytes_per_token)


def stage_kv_bytes(model: Model, summary: ModelSummary, num_layers: int) -> int:
    """A stage's part of the KV budget: each layer holds as much as any other."""
    return -(-kv_budget_bytes(model, summary) * num_layers // summary.num_layers)


def full_bytes(model: Model, summary: ModelSummary) -> int:
    """A worker that holds the whole model: weights + KV budget (design, section 7)."""
    return summary.weight_bytes + kv_budget_bytes(model, summary)


def worker_bytes(device_kind: str, measured_bytes: int | None = None) -> int:
    """What each worker on such a device takes beside weights and KV budget."""
    if device_kind != "cuda":
        return 0
    if measured_bytes is None:
        return PRIORS[EngineKind.STAGE].worker_bytes
    return max(measured_bytes, LEAST_WORKER_BYTES)


def file_bytes(unit: UnitSummary) -> int:
    """What a unit takes of a host cache: its file has a header."""
    return header_bytes(unit.size_bytes, CHUNK_SIZE_BYTES) + unit.size_bytes


def files_bytes(summary: ModelSummary) -> int:
    """What the whole model takes of a host cache."""
    return sum(file_bytes(unit) for unit in summary.units)
