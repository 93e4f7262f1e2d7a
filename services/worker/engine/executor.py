"""One stage at work: its layers, its part of the cache, and a micro-batch at a time."""

from collections.abc import Iterator

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.context import StepContexts
from services.worker.engine.kv_cache import KvCache
from services.worker.engine.microbatch import MicroBatch, Room
from services.worker.engine.options import (
    EngineOptions,
    context_limit,
    num_cache_slots,
    step_tokens,
)
from services.worker.engine.packing import Packer
from services.worker.engine.place import Place
from services.worker.engine.spans import Span
from services.worker.engine.stage import Stage
from services.worker.engine.weights import WeightSource


class Executor:
    """Its methods raise WeightsUnavailable or TensorError while the weights are not complete."""

    @torch.inference_mode()
    def __init__(
        self, config: ModelConfig, source: WeightSource, options: EngineOptions, place: Place
    ) -> None:
        """Raises EngineError when the budget holds less than two tokens."""
        dtype, self._device = options.dtype, options.device
        num_slots = num_cache_slots(config, options, len(place.layers))
        self.place = place
        self.room = Room(
            num_slots=num_slots,
            max_context_tokens=context_limit(config, options, num_slots),
            max_tokens=step_tokens(options),
        )
        self._stage = Stage(
            config,
            place.layers,
            source,
            is_entry=place.is_entry,
            dtype=dtype,
            unit_timeout_s=options.unit_timeout_s,
            layer_done=options.layer_done,
        )
        self._packer = Packer(self._stage.matrices, options.packed_bytes)
        self._cache = KvCache(
            config,
            num_layers=len(place.layers),
            num_slots=num_slots,
            dtype=dtype,
            device=self._device,
        )
        self._contexts = StepContexts(
            config.attention, place.layers, self.room.max_context_tokens, dtype, self._device
        )

    @torch.inference_mode()
    def load_units(self) -> Iterator[None]:
        """Wait for all weights, yielding after each unit."""
        yield from self._stage.load_units()

    @torch.inference_mode()
    def improve(self) -> bool:
        """Make later micro-batches faster by some milliseconds of work; False if none is left.

        Nothing happens before all weights are there.
        """
        return self._stage.is_loaded and self._packer.improve()

    def embed(self, token_ids: list[int], positions: list[int]) -> torch.Tensor:
        """`[tokens, hidden]`; entry stage only."""
        inputs = torch.tensor((token_ids, positions)).to(self._device)
        return self._stage.embed(inputs[0], inputs[1])

    def run(self, batch: MicroBatch, hidden: torch.Tensor) -> torch.Tensor:
        """`[tokens, hidden]` in and out; of the last stage, the sampled rows come out.

        Carries out the moves and fills the cache slots of every piece.
        """
        for move in batch.moves:
            self._cache.apply(move)
        if self.place.layers:
            context = self._contexts.make(_spans(batch), batch.positions, batch.slots)
            hidden = self._stage.run_layers(hidden, context, self._cache)
        if self.place.is_last and batch.num_sampled < hidden.shape[0]:
            hidden = hidden[batch.sampled_rows]
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, hidden]` of sampled tokens to `[rows, vocabulary]`; entry stage only."""
        return self._stage.logits(hidden)


def _spans(batch: MicroBatch) -> tuple[Span, ...]:
    spans, row = [], 0
    for piece in batch.pieces:
        spans.append(Span(row, piece.length, piece.region_start, piece.end))
        row += piece.length
    return tuple(spans)
