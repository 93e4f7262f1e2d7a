"""From token ids to hidden states, and from hidden states to logits: the entry stage's ends."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from libs.common.modelconfig.config import ModelConfig
from libs.common.modelconfig.tensors import POSITIONS_OFFSET, embedding_tensors, head_tensors
from services.worker.engine.model.linear import Linear, load_linear
from services.worker.engine.model.norm import Norm, load_optional_norm
from services.worker.engine.model.weights import UnitReader


@dataclass(frozen=True)
class Embedding:
    tokens: torch.Tensor  # [vocabulary, embedding]
    scale: float  # rounded to the weights' type
    projection: Linear | None  # [hidden, embedding]
    positions: torch.Tensor | None  # [POSITIONS_OFFSET + context, hidden]

    def __call__(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Two `[tokens]` int64 to `[tokens, hidden]`."""
        hidden = F.embedding(token_ids, self.tokens)
        if self.scale != 1.0:
            hidden = hidden.mul_(self.scale)
        if self.projection is not None:
            hidden = self.projection(hidden)
        if self.positions is not None:
            hidden = hidden.add_(F.embedding(positions + POSITIONS_OFFSET, self.positions))
        return hidden


@dataclass(frozen=True)
class Head:
    norm: Norm | None
    projection: Linear | None  # [embedding, hidden]
    matrix: Linear  # [vocabulary, embedding]
    logit_cap: float | None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[rows, hidden]` to `[rows, vocabulary]`."""
        if self.norm is not None:
            hidden = self.norm(hidden)
        if self.projection is not None:
            hidden = self.projection(hidden)
        logits = self.matrix(hidden)
        if self.logit_cap is not None:
            logits = logits.div_(self.logit_cap).tanh_().mul_(self.logit_cap)
        return logits


def load_embedding(reader: UnitReader, config: ModelConfig) -> Embedding:
    """Raises TensorError."""
    tensors = embedding_tensors(config)
    scale = torch.tensor(config.embedding_scale, dtype=reader.dtype).item()
    return Embedding(
        tokens=reader.weight(tensors.tokens),
        scale=scale,
        projection=load_linear(reader, tensors.projection) if tensors.projection else None,
        positions=reader.optional(tensors.positions),
    )


def load_head(reader: UnitReader, config: ModelConfig, matrix: torch.Tensor) -> Head:
    """`reader` reads the unit of the final norm, `matrix` comes from another one.

    Raises TensorError.
    """
    tensors = head_tensors(config)
    return Head(
        norm=load_optional_norm(reader, tensors.norm, config.norm),
        projection=load_linear(reader, tensors.projection) if tensors.projection else None,
        matrix=Linear(matrix),
        logit_cap=config.logit_cap,
    )
