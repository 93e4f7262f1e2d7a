"""What one decoder computes: the parts that every family is put together from. Values only.

The defaults are Llama's; a family states where it differs. Stdlib only: the importer plans tensors
with it and the worker runtime builds its decoder from it.
"""

from dataclasses import dataclass
from enum import StrEnum

from libs.common.modelconfig.names import TensorNames


class NormKind(StrEnum):
    RMS = "rms"  # x / rms(x), rounded, times weight
    RMS_AROUND_ONE = "rms_around_one"  # x / rms(x) times (1 + weight), then rounded
    LAYER = "layer"  # (x - mean) / deviation, times weight plus bias


class NormPlacement(StrEnum):
    """Where a residual branch f is normalised."""

    BEFORE = "before"  # x + f(norm(x))
    AROUND = "around"  # x + norm(f(norm(x)))
    AFTER = "after"  # norm(x + f(x))
    PARALLEL = "parallel"  # x + attention(norm(x)) + mlp(norm(x)), with one norm
    PARALLEL_APART = "parallel_apart"  # the same with a norm for each

    @property
    def is_parallel(self) -> bool:
        return self in (NormPlacement.PARALLEL, NormPlacement.PARALLEL_APART)

    @property
    def is_in_front(self) -> bool:
        """Whether branches read what is normalised."""
        return self is not NormPlacement.AFTER

    @property
    def is_behind(self) -> bool:
        """Whether there is a norm behind each branch, of its output or of the sum."""
        return self in (NormPlacement.AROUND, NormPlacement.AFTER)


class Activation(StrEnum):
    SILU = "silu"
    RELU = "relu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's stretch of the low rotary frequencies."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_tokens: int


@dataclass(frozen=True)
class RopeConfig:
    theta: float
    linear_factor: float = 1.0  # all positions are divided by it
    llama3: Llama3Scaling | None = None


@dataclass(frozen=True)
class NormConfig:
    eps: float
    kind: NormKind = NormKind.RMS
    placement: NormPlacement = NormPlacement.BEFORE


@dataclass(frozen=True)
class AttentionConfig:
    """Grouped-query attention; a key is seen by the queries of `window` tokens, its own first."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    score_scale: float  # query · key is multiplied by it
    windows: tuple[int | None, ...]  # of each layer; None sees everything before it
    rope: RopeConfig | None  # None: positions are learned, and added to the embedding
    score_cap: float | None = None  # scores become cap · tanh(score / cap)
    is_fused: bool = False  # one matrix: for each key head its queries' rows, its own, its value's
    has_head_norms: bool = False  # queries and keys are normalised head by head
    has_qkv_bias: bool = False
    has_output_bias: bool = False


@dataclass(frozen=True)
class MlpConfig:
    size: int
    activation: Activation = Activation.SILU
    is_gated: bool = True  # down(activation(gate(x)) · up(x)), otherwise down(activation(up(x)))
    has_bias: bool = False


@dataclass(frozen=True)
class ModelConfig:
    architecture: str  # transformers' class name
    vocab_size: int
    hidden_size: int
    num_layers: int
    max_context_tokens: int
    norm: NormConfig
    attention: AttentionConfig
    mlp: MlpConfig
    has_tied_embeddings: bool  # the head's matrix is the embedding's
    names: TensorNames
    embedding_size: int | None = None  # where the embedding is projected into the hidden states
    embedding_scale: float = 1.0
    has_final_norm: bool = True
    logit_cap: float | None = None  # logits become cap · tanh(logit / cap)

    @property
    def num_heads(self) -> int:
        return self.attention.num_heads

    @property
    def num_kv_heads(self) -> int:
        return self.attention.num_kv_heads

    @property
    def head_dim(self) -> int:
        return self.attention.head_dim

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim
