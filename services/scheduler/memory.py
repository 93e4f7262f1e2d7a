"""How many device bytes a model needs. Pure."""

from libs.common.messages import ModelSummary
from services.scheduler.cluster import Model

KV_TOKENS_PER_SLOT = 512  # what a request holds on average, if nobody says otherwise


def context_tokens(model: Model, summary: ModelSummary) -> int:
    """The longest sequence: the model's own limit, never beyond what the checkpoint allows."""
    if model.max_context_tokens is None:
        return summary.max_context_tokens
    return min(model.max_context_tokens, summary.max_context_tokens)


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
