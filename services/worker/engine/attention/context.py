"""What all layers of one step share, and how it is made of the step's chunks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from libs.common.modelconfig.config import AttentionConfig
from services.worker.engine.attention.attention import Attention, build_attention
from services.worker.engine.attention.packed import PackedKernel
from services.worker.engine.attention.spans import Scores, Span
from services.worker.engine.model.rope import RopeTable, Rotation


@dataclass(frozen=True)
class StepContext:
    rotation: Rotation | None  # None where positions are learned
    slots: torch.Tensor  # [tokens] int64: where each token's keys and values go
    attention: Mapping[int | None, Attention]  # by a layer's window


class StepContexts:
    """Makes them for the layers of one stage."""

    def __init__(
        self,
        config: AttentionConfig,
        layers: range,
        max_context_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
        kernel: PackedKernel | None = None,
    ) -> None:
        self._config, self._dtype, self._device, self._kernel = config, dtype, device, kernel
        self._windows = {config.windows[layer_index] for layer_index in layers}
        self._rope: RopeTable | None = None
        if config.rope is not None:
            head_dim = config.head_dim
            self._rope = RopeTable(config.rope, head_dim, max_context_tokens, dtype, device)

    def make(self, spans: tuple[Span, ...], positions: list[int], slots: list[int]) -> StepContext:
        """`positions` and `slots` of every row."""
        inputs = torch.tensor((positions, slots)).to(self._device)

        def attention(scores: Scores) -> Attention:
            return build_attention(spans, scores, self._kernel, self._dtype, self._device)

        return self.at(inputs[0], inputs[1], attention)

    def at(
        self,
        positions: torch.Tensor,
        slots: torch.Tensor,
        attention: Callable[[Scores], Attention],
    ) -> StepContext:
        """Two `[tokens]` int64, on the compute device."""
        config = self._config
        return StepContext(
            rotation=None if self._rope is None else self._rope.at(positions),
            slots=slots,
            attention={
                window: attention(Scores(config.score_scale, config.score_cap, window))
                for window in self._windows
            },
        )
