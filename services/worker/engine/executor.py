"""One stage at work: its layers, its part of the cache, and a micro-batch at a time."""

from collections.abc import Iterator

import torch

from services.worker.engine.attention import Attention, Span, build_attention
from services.worker.engine.config import ModelConfig
from services.worker.engine.decoder import StepContext
from services.worker.engine.kv_cache import KvCache
from services.worker.engine.microbatch import MicroBatch, Room
from services.worker.engine.options import (
    EngineOptions,
    context_limit,
    num_cache_slots,
    step_tokens,
)
from services.worker.engine.place import Place
from services.worker.engine.rope import RopeTable
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
        )
        self._cache = KvCache(
            config,
            num_layers=len(place.layers),
            num_slots=num_slots,
            dtype=dtype,
            device=self._device,
        )
        self._rope = RopeTable(config, self.room.max_context_tokens, dtype, self._device)

    @torch.inference_mode()
    def load_units(self) -> Iterator[None]:
        """Wait for all weights, yielding after each unit."""
        yield from self._stage.load_units()

    def embed(self, token_ids: list[int]) -> torch.Tensor:
        """`[tokens, hidden]`; entry stage only."""
        return self._stage.embed(torch.tensor(token_ids).to(self._device))

    def run(self, batch: MicroBatch, hidden: torch.Tensor) -> torch.Tensor:
        """`[tokens, hidden]` in and out; of the last stage, the sampled rows come out.

        Carries out the moves and fills the cache slots of every piece.
        """
        for move in batch.moves:
            self._cache.apply(move)
        if self.place.layers:
            hidden = self._stage.run_layers(hidden, self._context(batch), self._cache)
        if self.place.is_last and batch.num_sampled < hidden.shape[0]:
            hidden = hidden[batch.sampled_rows]
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, hidden]` of sampled tokens to `[rows, vocabulary]`; entry stage only."""
        return self._stage.logits(hidden)

    def _context(self, batch: MicroBatch) -> StepContext:
        inputs = torch.tensor((batch.positions, batch.slots)).to(self._device)
        positions, slots = inputs.unbind()
        return StepContext(self._rope.at(positions), slots, self._attention(batch))

    def _attention(self, batch: MicroBatch) -> Attention:
        head_dim = self._stage.config.head_dim
        return build_attention(_spans(batch), head_dim, self._rope.dtype, self._device)


def _spans(batch: MicroBatch) -> tuple[Span, ...]:
    spans, row = [], 0
    for piece in batch.pieces:
        spans.append(Span(row, piece.length, piece.region_start, piece.end))
        row += piece.length
    return tuple(spans)
