"""Which tensors a model has: names and shapes, by what its configuration says.

The importer plans units with it, and the engine asks for the same tensors by the same names.
"""

from dataclasses import dataclass

from libs.common.modelconfig.config import ModelConfig, NormKind, NormPlacement
from libs.common.modelconfig.parts import (
    EmbeddingTensors,
    HeadTensors,
    LayerTensors,
    LinearTensors,
    NormTensors,
    Weight,
)

# OPT's table of positions begins with two rows that nothing uses.
POSITIONS_OFFSET = 2


def embedding_tensors(config: ModelConfig) -> EmbeddingTensors:
    names, hidden = config.names, config.hidden_size
    num_positions = config.max_context_tokens + POSITIONS_OFFSET
    width = config.embedding_size
    return EmbeddingTensors(
        tokens=Weight(f"{names.embedding}.weight", (config.vocab_size, width or hidden)),
        positions=Weight(f"{names.positions}.weight", (num_positions, hidden))
        if names.positions
        else None,
        projection=LinearTensors(names.embedding_projection, hidden, width) if width else None,
    )


def layer_tensors(config: ModelConfig, layer_index: int) -> LayerTensors:
    layer = _Layer(config, config.names.layer.format(layer_index))
    names, placement = config.names, config.norm.placement
    has_mlp_norm = placement.is_in_front and placement is not NormPlacement.PARALLEL
    has_output_bias, mlp = config.attention.has_output_bias, config.mlp
    return LayerTensors(
        attention_norm=layer.norm(names.attention_norm, placement.is_in_front),
        attention_output_norm=layer.norm(names.attention_output_norm, placement.is_behind),
        qkv=layer.qkv(),
        query_norm=layer.head_norm(names.query_norm),
        key_norm=layer.head_norm(names.key_norm),
        output=layer.linear(names.output, config.hidden_size, config.query_size, has_output_bias),
        mlp_norm=layer.norm(names.mlp_norm, has_mlp_norm),
        mlp_output_norm=layer.norm(names.mlp_output_norm, placement.is_behind),
        expand=layer.expand(),
        contract=layer.linear(names.down, config.hidden_size, mlp.size, mlp.has_bias),
    )


def head_tensors(config: ModelConfig) -> HeadTensors:
    names, hidden, width = config.names, config.hidden_size, config.embedding_size
    matrix = Weight(f"{names.head}.weight", (config.vocab_size, width or hidden))
    return HeadTensors(
        norm=_norm(config, names.final_norm) if config.has_final_norm else None,
        projection=LinearTensors(names.final_projection, width, hidden) if width else None,
        matrix=None if config.has_tied_embeddings else matrix,
    )


@dataclass(frozen=True)
class _Layer:
    config: ModelConfig
    prefix: str

    def linear(self, name: str, num_out: int, num_in: int, has_bias: bool) -> LinearTensors:
        return LinearTensors(self.prefix + name, num_out, num_in, has_bias)

    def norm(self, name: str, is_there: bool) -> NormTensors | None:
        return _norm(self.config, self.prefix + name) if is_there else None

    def head_norm(self, name: str) -> NormTensors | None:
        if not self.config.attention.has_head_norms:
            return None
        return NormTensors(self.prefix + name, self.config.head_dim, has_bias=False)

    def qkv(self) -> tuple[LinearTensors, ...]:
        names, config = self.config.names, self.config
        rows = {names.query: config.query_size, names.key: config.kv_size}
        rows[names.value] = config.kv_size
        if config.attention.is_fused:
            rows = {names.fused: config.query_size + 2 * config.kv_size}
        has_bias = config.attention.has_qkv_bias
        return tuple(
            self.linear(name, num_rows, config.hidden_size, has_bias)
            for name, num_rows in rows.items()
        )

    def expand(self) -> tuple[LinearTensors, ...]:
        names, mlp = self.config.names, self.config.mlp
        parts = (names.gate, names.up) if mlp.is_gated else (names.up,)
        return tuple(
            self.linear(name, mlp.size, self.config.hidden_size, mlp.has_bias) for name in parts
        )


def _norm(config: ModelConfig, name: str) -> NormTensors:
    return NormTensors(name, config.hidden_size, has_bias=config.norm.kind is NormKind.LAYER)
