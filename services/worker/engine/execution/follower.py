"""A stage behind the entry: does what micro-batches say, and knows no request.

One thread owns it and calls `step`. What a step raises ends the stage, and with it the endpoint.
"""

import time
from collections.abc import Iterator
from typing import Final

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.consolidation.growth import Growth
from services.worker.engine.consolidation.kv_ports import KvBlock, KvSender
from services.worker.engine.consolidation.options import BUSY_SHARE
from services.worker.engine.errors import EngineError
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.microbatch import KvExport, MicroBatch, check_micro_batch
from services.worker.engine.execution.notices import KvInletOpened, RingClosed
from services.worker.engine.execution.ring import Arrival, Ring
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import ArrivingWeights, WeightSource
from services.worker.engine.options import EngineOptions
from services.worker.engine_port import GrowthEvents

BUSY_FOR_S: Final = 0.5  # after a micro-batch: more of them are likely to come


class Follower:
    def __init__(
        self,
        config: ModelConfig,
        source: WeightSource,
        options: EngineOptions,
        place: Place,
        ring: Ring,
        kv_sender: KvSender | None = None,
    ) -> None:
        """Without a sender the entry can have no keys and values of this stage.

        Raises EngineError when the budget holds less than two tokens.
        """
        assert not place.is_entry
        self._executor = Executor.build(config, source, options, place)
        self._ring, self._events, self._kv_sender = ring, options.events, kv_sender
        self._is_warm = False  # the first tokens are out
        self._growth: Growth | None = None
        self._computed_at_s = float("-inf")
        self.has_left = False  # the ring was closed: nothing more is to be done

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
        assert not self.has_left, "nothing comes after the ring was closed"
        arrival = self._ring.receive(timeout_s)
        match arrival:
            case None:
                return False
            case Arrival(batch, hidden):
                self._compute(batch, hidden)
            case KvInletOpened():
                self._ring.tell(self._sender(f"an inlet at {arrival.address}").open(arrival))
            case RingClosed():
                self._ring.tell(arrival)
                self.has_left = True
                if self._kv_sender is not None:
                    self._kv_sender.close()
        return True

    def _compute(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        is_sampled = batch.num_sampled > 0
        self._events.received(is_sampled=is_sampled)
        check_micro_batch(batch, hidden.shape[0], self._executor.capacity)
        hidden = self._executor.run(batch, hidden)
        is_last = self._executor.place.is_last
        self._events.leaving(is_sampled=is_sampled)
        self._ring.send(batch.answer if is_last else batch, hidden)
        self._events.left()
        for export in batch.exports:  # after what somebody waits for has left
            self._export(export)
        self._is_warm = self._is_warm or any(piece.is_decode for piece in batch.pieces)
        self._computed_at_s = time.monotonic()

    def _export(self, export: KvExport) -> None:
        sender, place = self._sender(f"{export}"), self._executor.place
        if place.layers:
            data = self._executor.cache.read(export.region_start + export.start, export.length)
            sender.send(KvBlock(export.export_id, place.index, place.layers.start, data))

    def _sender(self, wanted_by: str) -> KvSender:
        if self._kv_sender is None:
            raise EngineError(f"this stage has no way to send keys and values for {wanted_by}")
        return self._kv_sender

    def optimize_step(self) -> bool:
        """Spend some milliseconds between two steps on making later ones faster.

        False when nothing is left to do now, and until a sequence decodes.
        """
        if self._is_warm and not self.has_left and self._executor.optimize_step():
            return True
        return self._growth is not None and self._growth.load_next(is_busy=self._is_busy)

    @property
    def _is_busy(self) -> bool:
        is_recent = time.monotonic() < self._computed_at_s + BUSY_FOR_S
        return is_recent and not self.has_left

    # ------------------------------------------------------------------- consolidation

    def begin_growth(
        self, source: ArrivingWeights, events: GrowthEvents, *, packed_bytes: int
    ) -> None:
        """Load the layers that the other stages have, in the background, to be a whole model once
        the ring is closed. `packed_bytes` are for packed copies of all weights.

        What fails is told to `events`, and leaves the stage as it is.
        """
        self.abandon_growth("another one begins")
        self._growth = Growth(
            self._executor, source, events, packed_bytes=packed_bytes, busy_share=BUSY_SHARE
        )

    def abandon_growth(self, why: str) -> None:
        """Stay a stage; nothing if it becomes nothing else."""
        if self._growth is not None:
            self._growth.abandon(why)
            self._growth = None

    @property
    def whole(self) -> Executor | None:
        """Of the whole model, with an empty cache; None until all is loaded and the ring closed.

        It shares weights and cache with this stage, which must not be used any more.
        """
        return None if self._growth is None or not self.has_left else self._growth.whole
