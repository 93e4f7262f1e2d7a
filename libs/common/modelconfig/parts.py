"""What the parts of a model are made of: linear maps, norms, and the weights of both.

`weights()` is in the order in which tensors lie in a unit.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LinearTensors:
    """A matrix `[num_out, num_in]` and its bias, if it has one."""

    name: str
    num_out: int
    num_in: int
    has_bias: bool = False

    @property
    def weight(self) -> Weight:
        return Weight(f"{self.name}.weight", (self.num_out, self.num_in))

    @property
    def bias(self) -> Weight | None:
        return Weight(f"{self.name}.bias", (self.num_out,)) if self.has_bias else None


@dataclass(frozen=True)
class NormTensors:
    name: str
    size: int
    has_bias: bool

    @property
    def weight(self) -> Weight:
        return Weight(f"{self.name}.weight", (self.size,))

    @property
    def bias(self) -> Weight | None:
        return Weight(f"{self.name}.bias", (self.size,)) if self.has_bias else None


@dataclass(frozen=True)
class EmbeddingTensors:
    tokens: Weight  # [vocabulary, embedding]
    positions: Weight | None  # [offset + context, hidden]
    projection: LinearTensors | None  # embedding to hidden

    def weights(self) -> tuple[Weight, ...]:
        return _present(self.tokens, self.positions, *_of(self.projection))


@dataclass(frozen=True)
class LayerTensors:
    """Norms are None where the placement has none."""

    attention_norm: NormTensors | None  # on what attention reads
    attention_output_norm: NormTensors | None  # on what it gives, or on the sum behind it
    qkv: tuple[LinearTensors, ...]  # query, key, value; or one matrix with all of them
    query_norm: NormTensors | None
    key_norm: NormTensors | None
    output: LinearTensors
    mlp_norm: NormTensors | None
    mlp_output_norm: NormTensors | None
    expand: tuple[LinearTensors, ...]  # gate, up; or up alone
    contract: LinearTensors

    def weights(self) -> tuple[Weight, ...]:
        """What is used as one matrix lies side by side, so that the fused view needs no copy."""
        return _present(
            *_of(self.attention_norm),
            *_fused(self.qkv),
            *_of(self.query_norm),
            *_of(self.key_norm),
            *_of(self.output),
            *_of(self.attention_output_norm),
            *_of(self.mlp_norm),
            *_fused(self.expand),
            *_of(self.contract),
            *_of(self.mlp_output_norm),
        )


@dataclass(frozen=True)
class HeadTensors:
    norm: NormTensors | None
    projection: LinearTensors | None  # hidden to embedding
    matrix: Weight | None  # [vocabulary, embedding]; None: the embedding's

    def final_weights(self) -> tuple[Weight, ...]:
        """Of the unit between the last layer and the head's matrix."""
        return _present(*_of(self.norm), *_of(self.projection))


def _of(module: LinearTensors | NormTensors | None) -> tuple[Weight | None, ...]:
    return () if module is None else (module.weight, module.bias)


def _fused(modules: tuple[LinearTensors, ...]) -> Iterable[Weight | None]:
    return (*(module.weight for module in modules), *(module.bias for module in modules))


def _present(*weights: Weight | None) -> tuple[Weight, ...]:
    return tuple(weight for weight in weights if weight is not None)
