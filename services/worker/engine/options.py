"""What a worker's engine is told beside the model: sizes, limits, where it computes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.attention.kv_cache import kv_bytes_per_token
from services.worker.engine.attention.packed import PackedKernel
from services.worker.engine.errors import EngineError
from services.worker.engine.execution.graphs import GraphBackend
from services.worker.engine_port import NoEvents, StageEvents


@dataclass(frozen=True)
class EngineOptions:
    dtype: torch.dtype  # of the weights, the cache and the computation
    device: torch.device
    kv_bytes: int  # the plan's budget; never measured by filling the device
    max_running: int  # requests that run at once; more wait
    max_context_tokens: int  # at most the model's own
    eos_token_ids: frozenset[int]
    packed_bytes: int = 0  # for copies of weights that a CPU reads faster, beside the cache
    packed_kernel: PackedKernel | None = None  # attention of all chunks at once; None: one by one
    graphs: GraphBackend | None = None  # captures decode steps once the first tokens are out
    max_step_tokens: int = 512  # prompt and output tokens computed in one step
    unit_timeout_s: float = 600.0  # how long a step may wait for one unit of weights
    kv_tokens: int | None = None  # cache slots, the same on every stage; None: what kv_bytes hold
    # Called by the engine's thread after each layer: a step may take long, a layer does not.
    layer_done: Callable[[], None] = lambda: None
    events: StageEvents = field(default_factory=NoEvents)


def num_cache_slots(config: ModelConfig, options: EngineOptions, num_layers: int) -> int:
    """Token slots of this stage's cache. Raises EngineError for less than two."""
    num_slots = options.kv_tokens
    if num_slots is None:
        num_slots = options.kv_bytes // kv_bytes_per_token(config, num_layers, options.dtype)
    if num_slots < 2:
        bytes_per_token = kv_bytes_per_token(config, num_layers, options.dtype)
        raise EngineError(
            f"{options.kv_bytes} bytes of KV cache hold {num_slots} tokens of "
            f"{bytes_per_token} bytes"
        )
    return num_slots


def context_limit(config: ModelConfig, options: EngineOptions, num_slots: int) -> int:
    """Most tokens of a sequence. The last one is never an input, so it needs no slot."""
    return min(options.max_context_tokens, config.max_context_tokens, num_slots + 1)


def step_tokens(options: EngineOptions) -> int:
    """Most tokens of a step; there is room for every decode."""
    return max(options.max_step_tokens, options.max_running)
