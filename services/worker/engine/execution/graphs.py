"""Graphs: computations that a device records once and replays. The port."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from services.worker.engine.attention.attention import Attention
from services.worker.engine.attention.spans import Scores

Replay = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Decodes:
    """One row for each of some sequences, told by tensors on the compute device."""

    positions: torch.Tensor  # [rows] int64
    slots: torch.Tensor  # [rows] int64: where the row's keys and values go
    kv_starts: torch.Tensor  # [rows + 1] int64: the slots of the sequences' first tokens, then 0
    kv_lengths: torch.Tensor  # [rows] int64, with the row's own token


class GraphBackend(Protocol):
    def attention(self, decodes: Decodes, scores: Scores, max_length: int) -> Attention:
        """One that reads the tensors of `decodes` whenever it is called.

        No sequence will have more keys than `max_length`; the fewer are said, the faster it is.
        """

    def capture(self, compute: Callable[[], torch.Tensor]) -> Replay:
        """What `compute` does and returns, to be done again on the same memory.

        It is not done now. What a replay returns is good until the next replay of any graph.
        Raises RuntimeError.
        """
