"""A contiguous part of a model: some layers, and for the entry stage embedding and head.

A whole model is the stage with all layers that is also the entry. In a pipeline the entry stage
embeds tokens and runs its layers, the last stage sends hidden states back, and the entry stage's
head makes logits of them. Weights are taken unit by unit when first needed, so that a step can run
the readable layers while later ones still arrive.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from libs.common.manifest import UnitKind
from services.worker.engine.config import ModelConfig
from services.worker.engine.decoder import (
    LayerWeights,
    StepContext,
    decoder_layer,
    load_layer,
    rms_norm,
)
from services.worker.engine.kv_cache import KvCache
from services.worker.engine.linear import linear
from services.worker.engine.weights import UnitKey, UnitReader, WeightSource


class Stage:
    def __init__(
        self,
        config: ModelConfig,
        layers: range,
        source: WeightSource,
        *,
        is_entry: bool,
        dtype: torch.dtype,
        unit_timeout_s: float,
    ) -> None:
        assert layers.step == 1 and 0 <= layers.start <= layers.stop <= config.num_layers
        self.config = config
        self.layers = layers
        self.is_entry = is_entry
        self._source = source
        self._dtype = dtype
        self._unit_timeout_s = unit_timeout_s
        self._layer_weights: list[LayerWeights | None] = [None] * len(layers)
        self._embedding: torch.Tensor | None = None
        self._head: _Head | None = None

    def load_units(self) -> Iterator[None]:
        """Wait for every unit, yielding after each. Raises WeightsUnavailable or TensorError."""
        if self.is_entry:
            self._embedding_weight()
            yield
        for position in range(len(self.layers)):
            if self._layer_weights[position] is None:
                self._weights_of(position)
                yield
        if self.is_entry and self._head is None:
            self._head_weights()
            yield

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """`[tokens]` int64 to `[tokens, hidden]`; entry stage only."""
        return F.embedding(token_ids, self._embedding_weight())

    def run_layers(
        self, hidden: torch.Tensor, context: StepContext, cache: KvCache
    ) -> torch.Tensor:
        """`[tokens, hidden]` in and out; fills the step's cache slots."""
        layers = zip(range(len(self.layers)), cache.keys, cache.values, strict=True)
        for position, keys, values in layers:
            weights = self._layer_weights[position] or self._weights_of(position)
            hidden = decoder_layer(hidden, weights, self.config, context, keys, values)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, hidden]` of sampled positions to `[rows, vocabulary]`; entry stage only."""
        head = self._head or self._head_weights()
        return linear(rms_norm(hidden, head.norm, self.config.norm_eps), head.projection)

    def _weights_of(self, position: int) -> LayerWeights:
        layer_index = self.layers[position]
        reader = self._reader(UnitKey(UnitKind.LAYER, layer_index))
        weights = load_layer(reader, self.config, layer_index)
        self._layer_weights[position] = weights
        return weights

    def _embedding_weight(self) -> torch.Tensor:
        assert self.is_entry
        if self._embedding is None:
            reader = self._reader(UnitKey(UnitKind.EMBEDDING))
            shape = (self.config.vocab_size, self.config.hidden_size)
            self._embedding = reader.tensor("model.embed_tokens.weight", *shape)
        return self._embedding

    def _head_weights(self) -> "_Head":
        assert self.is_entry
        reader = self._reader(UnitKey(UnitKind.FINAL_NORM))
        norm = reader.tensor("model.norm.weight", self.config.hidden_size)
        self._head = _Head(norm, self._projection())
        return self._head

    def _projection(self) -> torch.Tensor:
        if self.config.has_tied_embeddings:
            return self._embedding_weight()
        reader = self._reader(UnitKey(UnitKind.LM_HEAD))
        shape = (self.config.vocab_size, self.config.hidden_size)
        return reader.tensor("lm_head.weight", *shape)

    def _reader(self, unit: UnitKey) -> UnitReader:
        self._source.wait_unit(unit, self._unit_timeout_s)
        return UnitReader(self._source, unit, self._dtype)


class _Head:
    __slots__ = ("norm", "projection")

    def __init__(self, norm: torch.Tensor, projection: torch.Tensor) -> None:
        self.norm, self.projection = norm, projection  # [hidden], [vocabulary, hidden]
