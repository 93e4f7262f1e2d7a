"""Finds torch's kernel for all chunks of a step, and tries it before anything relies on it.

FlashAttention is an operator of torch without a public interface: a version may lack it or give its
arguments another meaning, and GPUs before Ampere cannot run it. Where it does not do what is
expected of it here, attention goes chunk by chunk, as every device can.
"""

import logging
from typing import Final, cast

import torch

from libs.common.modelconfig.config import AttentionConfig
from services.worker.engine.attention.by_span import SpanAttention
from services.worker.engine.attention.packed import PackedAttention, PackedKernel, PackedRanges
from services.worker.engine.attention.spans import Scores, Span
from services.worker.engine.gpu import Gpu

logger = logging.getLogger(__name__)

CAPABILITY: Final = (8, 0)  # Ampere
MAX_HEAD_DIM: Final = 256
_OPERATOR: Final = "_flash_attention_forward"
_POSITIONAL: Final = "query key value cum_seq_q cum_seq_k max_q max_k".split()
_NAMED: Final = frozenset(
    "dropout_p is_causal return_debug_mask scale window_size_left window_size_right "
    "seqused_k".split()
)
# Chunks and a decode with gaps in the cache, and decodes alone, which another kernel computes.
_TRIALS: Final = (
    (Span(0, 1, 9, 3), Span(1, 3, 0, 5)),
    (Span(0, 1, 9, 3), Span(1, 1, 2, 5)),
)
_TRIAL_SLOTS: Final = 16
_TOLERANCE: Final = 0.03  # of values around 1, in 16 bits


def find_packed_kernel(
    gpu: Gpu,
    config: AttentionConfig,
    dtype: torch.dtype,
    device: torch.device,
    operators: object = torch.ops.aten,
) -> PackedKernel | None:
    """None where it cannot be used; the log says why."""
    why_not = why_no_packed_kernel(gpu, config, dtype)
    if why_not is None:
        kernel = known_operator(operators)
        if kernel is not None and (why_not := _trouble(kernel, config, dtype, device)) is None:
            return kernel
        why_not = why_not or f"torch {torch.__version__} has no such operator {_OPERATOR}"
    logger.warning("attention is computed chunk by chunk: %s", why_not)
    return None


def why_no_packed_kernel(gpu: Gpu, config: AttentionConfig, dtype: torch.dtype) -> str | None:
    """What of the GPU or the model rules it out. Pure."""
    if gpu.capability < CAPABILITY:
        return f"GPU {gpu.name} has compute capability {gpu.capability_text}, FlashAttention's is 8"
    if dtype.itemsize != 2:
        return f"FlashAttention computes 16-bit types, not {dtype}"
    if config.score_cap is not None:
        return "the model caps its scores"
    if config.head_dim % 8 or config.head_dim > MAX_HEAD_DIM:
        return f"heads have {config.head_dim} values, not a multiple of 8 up to {MAX_HEAD_DIM}"
    return None


def known_operator(operators: object) -> PackedKernel | None:
    """The operator if its signature is the one that `PackedAttention` calls."""
    overload = getattr(getattr(operators, _OPERATOR, None), "default", None)
    arguments = [] if overload is None else list(overload._schema.arguments)
    first = [argument.name for argument in arguments[: len(_POSITIONAL)]]
    others = {argument.name: argument for argument in arguments[len(_POSITIONAL) :]}
    if first != _POSITIONAL or not others.keys() >= _NAMED:
        return None
    if any(not others[name].has_default_value() for name in others.keys() - _NAMED):
        return None
    return cast("PackedKernel", overload)


def _trouble(
    kernel: PackedKernel, config: AttentionConfig, dtype: torch.dtype, device: torch.device
) -> str | None:
    """What goes wrong when it computes little that is known; it waits for that."""
    windowed = Scores(config.score_scale, window=2)
    kinds = [Scores(config.score_scale)] + [windowed] * any(config.windows)
    try:
        is_right = all(
            _is_right(kernel, config, spans, scores, dtype, device)
            for spans in _TRIALS
            for scores in kinds
        )
    except (RuntimeError, TypeError, IndexError) as exc:  # what torch and its calls raise
        return f"{_OPERATOR} of torch {torch.__version__} fails: {str(exc).splitlines()[0]}"
    if not is_right:
        return f"{_OPERATOR} of torch {torch.__version__} computes something else"
    return None


def _is_right(
    kernel: PackedKernel,
    config: AttentionConfig,
    spans: tuple[Span, ...],
    scores: Scores,
    dtype: torch.dtype,
    device: torch.device,
) -> bool:
    num_rows, groups = spans[-1].row_end, config.num_heads // config.num_kv_heads
    generator = torch.Generator().manual_seed(1)
    queries = torch.rand(num_rows, groups, config.head_dim, generator=generator)
    keys, values = torch.rand(2, _TRIAL_SLOTS, 1, config.head_dim, generator=generator)
    host = [tensor.to(dtype) for tensor in (queries, keys, values)]

    packed = PackedAttention(PackedRanges.of_spans(spans, device), scores, kernel)
    output = packed(*(tensor.to(device) for tensor in host)).cpu().float()

    plain = SpanAttention(spans, scores, torch.float32, torch.device("cpu"))
    expected = plain(*(tensor.float() for tensor in host))
    return output.shape == expected.shape and bool((output - expected).abs().max() <= _TOLERANCE)
