"""One decoder layer as a function of its weights: two residual branches and their norms.

Every rounding step is where transformers has it, so that bfloat16 results agree as far as the
kernels allow. Weights are read-only memory: nothing here writes to one.
"""

from dataclasses import dataclass

import torch

from libs.common.modelconfig.config import ModelConfig, NormPlacement
from libs.common.modelconfig.tensors import layer_tensors
from services.worker.engine.attention.context import StepContext
from services.worker.engine.model.linear import Linear
from services.worker.engine.model.mlp import Mlp, load_mlp
from services.worker.engine.model.norm import Norm, load_optional_norm
from services.worker.engine.model.self_attention import SelfAttention, load_self_attention
from services.worker.engine.model.weights import UnitReader


@dataclass(frozen=True)
class DecoderLayer:
    """Which norms there are, the placement says; the others are None."""

    placement: NormPlacement
    attention: SelfAttention
    mlp: Mlp
    attention_norm: Norm | None
    attention_output_norm: Norm | None
    mlp_norm: Norm | None
    mlp_output_norm: Norm | None

    def __call__(
        self,
        hidden: torch.Tensor,
        context: StepContext,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        """`[tokens, hidden]` in and, as a new tensor, out; writes the tokens' cache slots."""
        normed = _apply(self.attention_norm, hidden)
        attended = self.attention(normed, context, keys, values)
        if self.placement.is_parallel:
            if self.mlp_norm is not None:
                normed = self.mlp_norm(hidden)
            return self.mlp(normed).add_(attended).add_(hidden)
        hidden = self._joined(hidden, attended, self.attention_output_norm)
        expanded = self.mlp(_apply(self.mlp_norm, hidden))
        return self._joined(hidden, expanded, self.mlp_output_norm)

    @property
    def matrices(self) -> tuple[Linear, ...]:
        """In the order in which they are used."""
        return (
            *(self.attention.qkv, self.attention.output),
            *(self.mlp.expand, self.mlp.contract),
        )

    def _joined(
        self, hidden: torch.Tensor, branch: torch.Tensor, norm: Norm | None
    ) -> torch.Tensor:
        """The sum with the branch, which is a tensor of its own and gets overwritten."""
        if norm is None:
            return branch.add_(hidden)
        if self.placement is NormPlacement.AROUND:
            return norm(branch).add_(hidden)
        return norm(branch.add_(hidden))


def load_layer(reader: UnitReader, config: ModelConfig, layer_index: int) -> DecoderLayer:
    """Raises TensorError."""
    tensors, norm = layer_tensors(config, layer_index), config.norm
    return DecoderLayer(
        placement=norm.placement,
        attention=load_self_attention(reader, tensors, config, layer_index),
        mlp=load_mlp(reader, tensors, config.mlp),
        attention_norm=load_optional_norm(reader, tensors.attention_norm, norm),
        attention_output_norm=load_optional_norm(reader, tensors.attention_output_norm, norm),
        mlp_norm=load_optional_norm(reader, tensors.mlp_norm, norm),
        mlp_output_norm=load_optional_norm(reader, tensors.mlp_output_norm, norm),
    )


def _apply(norm: Norm | None, hidden: torch.Tensor) -> torch.Tensor:
    return hidden if norm is None else norm(hidden)
