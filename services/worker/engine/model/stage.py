"""A contiguous part of a model: some layers, and for the entry stage embedding and head.

A whole model is the stage with all layers that is also the entry. In a pipeline the entry stage
embeds tokens and runs its layers, the last stage sends hidden states back, and the entry stage's
head makes logits of them. Weights are taken unit by unit when first needed, so that a step can run
the readable layers while later ones still arrive.
"""

from collections.abc import Callable, Iterator

import torch

from libs.common.modelconfig.config import ModelConfig
from libs.common.modelconfig.tensors import head_tensors
from libs.common.weights.manifest import UnitKind
from services.worker.engine.attention.context import StepContext
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.model.decoder import DecoderLayer, load_layer
from services.worker.engine.model.embedding import Embedding, Head, load_embedding, load_head
from services.worker.engine.model.linear import Linear
from services.worker.engine.model.weights import UnitKey, UnitReader, WeightSource


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
        layer_done: Callable[[], None] = lambda: None,
    ) -> None:
        assert layers.step == 1 and 0 <= layers.start <= layers.stop <= config.num_layers
        self.config = config
        self.layers = layers
        self.is_entry = is_entry
        self._source = source
        self._dtype = dtype
        self._unit_timeout_s = unit_timeout_s
        self._layer_done = layer_done
        self._loaded_layers: list[DecoderLayer | None] = [None] * len(layers)
        self._embedding: Embedding | None = None
        self._head: Head | None = None

    def whole(self, source: WeightSource) -> "Stage":
        """The whole model: what is loaded here is shared, the rest comes from `source`."""
        assert self.is_loaded
        whole = Stage(
            self.config,
            range(self.config.num_layers),
            source,
            is_entry=True,
            dtype=self._dtype,
            unit_timeout_s=self._unit_timeout_s,
            layer_done=self._layer_done,
        )
        whole._loaded_layers[self.layers.start : self.layers.stop] = self._loaded_layers
        whole._embedding, whole._head = self._embedding, self._head
        return whole

    @property
    def missing_units(self) -> list[UnitKey]:
        """That are not loaded yet, in the order in which `load_units` takes them."""
        layers = zip(self.layers, self._loaded_layers, strict=True)
        missing = [UnitKey(UnitKind.LAYER, index) for index, layer in layers if layer is None]
        if not self.is_entry:
            return missing
        if self._embedding is None:
            missing.insert(0, UnitKey(UnitKind.EMBEDDING))
        if self._head is None:
            missing.append(UnitKey(UnitKind.FINAL_NORM))
            if head_tensors(self.config).matrix is not None:
                missing.append(UnitKey(UnitKind.LM_HEAD))
        return missing

    def load_units(self) -> Iterator[None]:
        """Wait for every unit, yielding after each. Raises WeightsUnavailable or TensorError."""
        if self.is_entry:
            self._loaded_embedding()
            yield
        for position in range(len(self.layers)):
            if self._loaded_layers[position] is None:
                self._load_layer(position)
                yield
        if self.is_entry and self._head is None:
            self._load_head()
            yield

    def embed(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Two `[tokens]` int64 to `[tokens, hidden]`; entry stage only."""
        return self._loaded_embedding()(token_ids, positions)

    def run_layers(
        self, hidden: torch.Tensor, context: StepContext, cache: KvCache
    ) -> torch.Tensor:
        """`[tokens, hidden]` in and out; fills the step's cache slots."""
        layers = zip(range(len(self.layers)), cache.keys, cache.values, strict=True)
        for position, keys, values in layers:
            layer = self._loaded_layers[position] or self._load_layer(position)
            hidden = layer(hidden, context, keys, values)
            self._layer_done()
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, hidden]` of sampled positions to `[rows, vocabulary]`; entry stage only."""
        head = self._head or self._load_head()
        return head(hidden)

    @property
    def is_loaded(self) -> bool:
        is_head_there = self._head is not None or not self.is_entry
        return is_head_there and all(layer is not None for layer in self._loaded_layers)

    @property
    def matrices(self) -> Iterator[Linear]:
        """Of all layers and the head, as far as they are loaded."""
        for layer in self._loaded_layers:
            if layer is not None:
                yield from layer.matrices
        if self._head is not None:
            yield self._head.matrix

    def _load_layer(self, position: int) -> DecoderLayer:
        layer_index = self.layers[position]
        reader = self._reader(UnitKey(UnitKind.LAYER, layer_index))
        layer = load_layer(reader, self.config, layer_index)
        self._loaded_layers[position] = layer
        return layer

    def _loaded_embedding(self) -> Embedding:
        assert self.is_entry
        if self._embedding is None:
            self._embedding = load_embedding(self._reader(UnitKey(UnitKind.EMBEDDING)), self.config)
        return self._embedding

    def _load_head(self) -> Head:
        assert self.is_entry
        reader = self._reader(UnitKey(UnitKind.FINAL_NORM))
        self._head = load_head(reader, self.config, self._head_matrix())
        return self._head

    def _head_matrix(self) -> torch.Tensor:
        matrix = head_tensors(self.config).matrix
        if matrix is None:
            return self._loaded_embedding().tokens
        return self._reader(UnitKey(UnitKind.LM_HEAD)).weight(matrix)

    def _reader(self, unit: UnitKey) -> UnitReader:
        self._source.wait_unit(unit, self._unit_timeout_s)
        return UnitReader(self._source, unit, self._dtype)
