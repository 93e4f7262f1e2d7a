"""A stage behind the entry: does what micro-batches say, and knows no request.

One thread owns it and calls `step`. What a step raises ends the stage, and with it the endpoint.
"""

from collections.abc import Iterator

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.microbatch import check_micro_batch
from services.worker.engine.execution.ring import Ring
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import WeightSource
from services.worker.engine.options import EngineOptions


class Follower:
    def __init__(
        self,
        config: ModelConfig,
        source: WeightSource,
        options: EngineOptions,
        place: Place,
        ring: Ring,
    ) -> None:
        """Raises EngineError when the budget holds less than two tokens."""
        assert not place.is_entry
        self._executor = Executor(config, source, options, place)
        self._ring, self._events = ring, options.events
        self._is_warm = False  # the first tokens are out

    @property
    def cache(self) -> KvCache:
        """For a warm-up before the first step: no slot is in use by then."""
        return self._executor.cache

    def load_units(self) -> Iterator[None]:
        """Wait for all weights, yielding after each unit; steps may be taken in between.

        Without it micro-batches wait for what they need. Raises WeightsUnavailable or TensorError.
        """
        yield from self._executor.load_units()

    @torch.inference_mode()
    def step(self, timeout_s: float) -> bool:
        """Compute the next micro-batch and pass it on; False when none came in time.

        Raises MicroBatchRefused, what the ring raises, or WeightsUnavailable and TensorError.
        """
        arrival = self._ring.receive(timeout_s)
        if arrival is None:
            return False
        batch, hidden = arrival.batch, arrival.hidden
        is_sampled = batch.num_sampled > 0
        self._events.received(is_sampled=is_sampled)
        check_micro_batch(batch, hidden.shape[0], self._executor.capacity)
        hidden = self._executor.run(batch, hidden)
        is_last = self._executor.place.is_last
        self._events.leaving(is_sampled=is_sampled)
        self._ring.send(batch.answer if is_last else batch, hidden)
        self._events.left()
        self._is_warm = self._is_warm or any(piece.is_decode for piece in batch.pieces)
        return True

    def optimize_step(self) -> bool:
        """Spend some milliseconds between two steps on making later ones faster.

        False when nothing is left, and until a sequence decodes.
        """
        return self._is_warm and self._executor.optimize_step()
