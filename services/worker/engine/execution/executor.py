"""Executes micro-batches on one stage: its layers, its part of the cache."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Self

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.attention.context import StepContexts
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.attention.spans import Span
from services.worker.engine.execution.decode_graphs import DecodeGraphs
from services.worker.engine.execution.microbatch import MicroBatch, StageCapacity
from services.worker.engine.model.packing import Packer
from services.worker.engine.model.place import Place
from services.worker.engine.model.stage import Stage
from services.worker.engine.model.weights import UnitKey, WeightSource
from services.worker.engine.options import (
    EngineOptions,
    context_limit,
    num_cache_slots,
    step_tokens,
)


class Executor:
    """Its methods raise WeightsUnavailable or TensorError while the weights are not complete."""

    @torch.inference_mode()
    def __init__(
        self, stage: Stage, options: EngineOptions, place: Place, cache: KvCache | None = None
    ) -> None:
        """`cache` is one of these layers that somebody lends; without it one is allocated.

        Raises EngineError when the budget holds less than two tokens.
        """
        config = stage.config
        self._stage, self._options, self.place = stage, options, place
        self._device, self.hidden_size = options.device, config.hidden_size
        num_slots = (
            cache.num_slots if cache else num_cache_slots(config, options, len(place.layers))
        )
        self.capacity = StageCapacity(
            num_slots=num_slots,
            max_context_tokens=context_limit(config, options, num_slots),
            max_tokens=step_tokens(options),
        )
        self._packer = Packer(stage.matrices, options.packed_bytes)
        self.cache = cache or self._new_cache(len(place.layers), num_slots)
        self._contexts = StepContexts(
            config.attention,
            place.layers,
            self.capacity.max_context_tokens,
            options.dtype,
            self._device,
            options.packed_kernel,
        )
        self._graphs = self._new_graphs()

    @classmethod
    def build(
        cls,
        config: ModelConfig,
        source: WeightSource,
        options: EngineOptions,
        place: Place,
        cache: KvCache | None = None,
    ) -> Self:
        """Of one stage, whose weights are taken from `source` when they are needed."""
        stage = Stage(
            config,
            place.layers,
            source,
            is_entry=place.is_entry,
            dtype=options.dtype,
            unit_timeout_s=options.unit_timeout_s,
            layer_done=options.layer_done,
        )
        return cls(stage, options, place, cache)

    @torch.inference_mode()
    def whole(self, source: WeightSource, *, packed_bytes: int) -> "Executor":
        """Of the whole model, beside this one, with which it shares weights, cache and slots.

        The weights of other layers come from `source`; their cache is new. `packed_bytes` are for
        packed copies of all weights.
        """
        config, layers = self._stage.config, self.place.layers
        num_slots = self.capacity.num_slots
        before = self._new_cache(layers.start, num_slots)
        after = self._new_cache(config.num_layers - layers.stop, num_slots)
        return Executor(
            self._stage.whole(source),
            replace(self._options, packed_bytes=packed_bytes),
            Place.whole(config.num_layers),
            KvCache.joined(before, self.cache, after),
        )

    def _new_cache(self, num_layers: int, num_slots: int) -> KvCache:
        return KvCache.allocate(
            self._stage.config,
            num_layers=num_layers,
            num_slots=num_slots,
            dtype=self._options.dtype,
            device=self._device,
        )

    def _new_graphs(self) -> DecodeGraphs | None:
        options = self._options
        if options.graphs is None or not self.place.layers:
            return None
        return DecodeGraphs(
            options.graphs,
            self._stage,
            self._contexts,
            cache=self.cache,
            scratch=self._new_cache(len(self.place.layers), num_slots=1),
            max_rows=options.max_running,
            max_length=self.capacity.max_context_tokens,
        )

    @property
    def is_loaded(self) -> bool:
        """Whether all weights are there."""
        return self._stage.is_loaded

    @property
    def missing_units(self) -> list[UnitKey]:
        """Whose weights are not loaded yet, in the order in which they are."""
        return self._stage.missing_units

    @torch.inference_mode()
    def load_units(self) -> Iterator[None]:
        """Wait for all weights, yielding after each unit."""
        yield from self._stage.load_units()

    @torch.inference_mode()
    def optimize_step(self) -> bool:
        """Make later micro-batches faster by some milliseconds of work; False if none is left.

        On a CPU matrices are packed, on a GPU decode steps are captured as graphs.

        Nothing happens before all weights are there.
        """
        if not self._stage.is_loaded:
            return False
        if self._packer.pack_next():
            return True
        return self._graphs is not None and self._graphs.capture_next()

    def embed(self, token_ids: list[int], positions: list[int]) -> torch.Tensor:
        """`[tokens, hidden]`; entry stage only."""
        inputs = torch.tensor((token_ids, positions), dtype=torch.int64).to(self._device)
        return self._stage.embed(inputs[0], inputs[1])

    def run(self, batch: MicroBatch, hidden: torch.Tensor) -> torch.Tensor:
        """`[tokens, hidden]` in and out; of the last stage, the sampled rows come out.

        Carries out the moves and fills the cache slots of every piece. What comes out is good
        until the next call.
        """
        for move in batch.moves:
            self.cache.apply(move)
        if self.place.layers and batch.pieces:
            hidden = self._run_layers(batch, hidden)
        if self.place.is_last and batch.num_sampled < hidden.shape[0]:
            hidden = hidden[batch.sampled_rows]
        return hidden

    def _run_layers(self, batch: MicroBatch, hidden: torch.Tensor) -> torch.Tensor:
        if self._graphs is not None:
            replayed = self._graphs.run(batch, hidden)
            if replayed is not None:
                return replayed
        context = self._contexts.make(_spans(batch), batch.positions, batch.slots)
        return self._stage.run_layers(hidden, context, self.cache)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, hidden]` of sampled tokens to `[rows, vocabulary]`; entry stage only."""
        return self._stage.logits(hidden)


def _spans(batch: MicroBatch) -> tuple[Span, ...]:
    spans, row = [], 0
    for piece in batch.pieces:
        spans.append(Span(row, piece.length, piece.region_start, piece.end))
        row += piece.length
    return tuple(spans)
