"""The ports by which keys and values of running sequences reach the entry stage.

They go beside the ring, from each stage straight to the entry: what the entry asks for in a
micro-batch a stage copies in order with what it computes, and hands to its sender, which has a
thread of its own. So no step waits for the network.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from services.worker.engine.execution.notices import KvInletOpened


@dataclass(frozen=True)
class KvBlock:
    """Keys and values of one export's tokens in all layers of one stage, as they lie in its cache:
    after rotary embedding."""

    export_id: int
    stage: int
    first_layer: int  # counted over the whole model
    data: torch.Tensor  # [layers, 2, tokens, kv_heads, head_dim], on the host; nobody writes to it

    @property
    def layers(self) -> range:
        return range(self.first_layer, self.first_layer + self.data.shape[0])

    @property
    def num_bytes(self) -> int:
        return self.data.numel() * self.data.itemsize


@dataclass(frozen=True)
class KvBlockLost:
    """A block came damaged; it has to be asked for again."""

    export_id: int
    stage: int


class KvSender(Protocol):
    """A follower's end. For the thread that owns the stage."""

    def open(self, notice: KvInletOpened) -> KvInletOpened:
        """Connect to the entry; the notice with this stage's key in it. A second one replaces the
        first."""

    def send(self, block: KvBlock) -> None:
        """Never waits: it is queued. Within the node's network budget, behind everything else."""

    def close(self) -> None:
        """Send nothing more: what is queued is dropped. Once."""


class KvReceiver(Protocol):
    """The entry's end. For the thread that owns the engine."""

    def open(self) -> KvInletOpened:
        """Listen, for nobody yet. Raises WorkerError."""

    def admit(self, notice: KvInletOpened) -> None:
        """Take blocks of exactly the stages that have added their keys."""

    def receive(self, timeout_s: float) -> KvBlock | KvBlockLost | None:
        """The next block, whose digest was verified; None when none comes in time.

        Raises WorkerError when no more can come.
        """

    def wake(self) -> None:
        """End a `receive` early, now or the next one. Any thread."""

    def close(self) -> None:
        """Take nothing more. Once."""
