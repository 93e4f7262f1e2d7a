"""Checks that a model can answer with its settings, as far as its manifest says. Pure."""

from libs.common.states import EngineChoice
from services.gateway.errors import InvalidRequest
from services.gateway.store.model_entry import ModelEntry

MIN_CONTEXT_TOKENS = 16  # the least that may be set; no useful prompt is shorter


def check_engine(engine: EngineChoice | None) -> None:
    """Raises InvalidRequest for an engine that no worker of this build can run."""
    if engine is EngineChoice.VLLM:
        message = "this build has no vLLM engine yet; 'engine' may be 'auto' or 'stage'"
        raise InvalidRequest(message, code="engine_not_available", param="engine")


def check_pipeline(min_pipeline_size: int, max_pipeline_size: int) -> None:
    """Raises InvalidRequest when no number of stages is allowed."""
    if min_pipeline_size > max_pipeline_size:
        message = (
            f"'min_pipeline_size' is {min_pipeline_size}, more than the 'max_pipeline_size' of "
            f"{max_pipeline_size}; lower the one or raise the other"
        )
        raise InvalidRequest(message, code="invalid_value", param="min_pipeline_size")


def check_full_workers(full_memory_workers: int | None, max_pipeline_size: int) -> None:
    """Raises InvalidRequest for more of them than a pipeline may have workers."""
    if full_memory_workers is not None and full_memory_workers > max_pipeline_size:
        message = (
            f"'full_memory_workers' is {full_memory_workers}, more than the 'max_pipeline_size' of "
            f"{max_pipeline_size}; lower the one or raise the other"
        )
        raise InvalidRequest(message, code="invalid_value", param="full_memory_workers")


def check_endpoints(min_endpoints: int, max_endpoints: int) -> None:
    """Raises InvalidRequest for more that are kept than there may be."""
    if min_endpoints > max_endpoints:
        message = (
            f"'min_endpoints' is {min_endpoints} and 'max_endpoints' {max_endpoints}: no more can"
            " be kept than there may be, so lower the one or raise the other"
        )
        raise InvalidRequest(message, code="invalid_value", param="min_endpoints")


def check_kv_cache(entry: ModelEntry) -> None:
    """Raises InvalidRequest when its KV cache is too small for the shortest context."""
    if entry.summary is None or entry.kv_cache_bytes is None:
        return
    needed_bytes = MIN_CONTEXT_TOKENS * entry.summary.kv_bytes_per_token
    if entry.kv_cache_bytes < needed_bytes:
        message = (
            f"'kv_cache_bytes' of {entry.kv_cache_bytes} hold fewer than {MIN_CONTEXT_TOKENS} "
            f"tokens of the model {entry.name!r}: each takes {entry.summary.kv_bytes_per_token} "
            f"bytes, so it needs {needed_bytes} at least"
        )
        raise InvalidRequest(message, code="invalid_value", param="kv_cache_bytes")
