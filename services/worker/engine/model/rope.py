"""Rotary position embedding: tables made once, applied to queries and keys together."""

import math

import torch

from libs.common.modelconfig.config import Llama3Scaling, RopeConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> torch.Tensor:
    """`[head_dim / 2]` float32 on CPU: radians per position of each pair."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.llama3 is not None:
        return _stretch_low(frequencies, rope.llama3)
    return frequencies / rope.linear_factor


def _stretch_low(frequencies: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    """Llama 3.1: waves longer than the original context are slowed, a smooth band lies between."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_tokens / wavelengths  # in the original context
    slowed = frequencies / scaling.factor
    smooth = (turns - low) / (high - low)
    blended = (1 - smooth) * slowed + smooth * frequencies
    is_low = wavelengths > scaling.original_max_tokens / low
    is_high = wavelengths < scaling.original_max_tokens / high
    return torch.where(is_low, slowed, torch.where(is_high, frequencies, blended))


class RopeTable:
    """Cosines and sines of every position, in the compute dtype on the compute device."""

    def __init__(
        self,
        rope: RopeConfig,
        head_dim: int,
        num_positions: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        frequencies = inverse_frequencies(rope, head_dim)
        positions = torch.arange(num_positions, dtype=torch.float32)
        angles = torch.outer(positions, frequencies)
        cosines, sines = angles.cos(), angles.sin()
        # The rotation of a pair (a, b) is (a·cos - b·sin, b·cos + a·sin): the sign is in the table.
        self._cosines = torch.cat((cosines, cosines), -1).to(device, dtype).unsqueeze(1)
        self._sines = torch.cat((-sines, sines), -1).to(device, dtype).unsqueeze(1)

    def at(self, positions: torch.Tensor) -> "Rotation":
        """The rotation of tokens at `positions` `[tokens]` int64."""
        return Rotation(self._cosines[positions], self._sines[positions])


class Rotation:
    """`[tokens, 1, head_dim]` cosines and signed sines, the same for every head and layer."""

    __slots__ = ("_cosines", "_half", "_sines")

    def __init__(self, cosines: torch.Tensor, sines: torch.Tensor) -> None:
        self._cosines, self._sines = cosines, sines
        self._half = cosines.shape[-1] // 2

    def apply(self, heads: torch.Tensor) -> torch.Tensor:
        """Rotate `[tokens, heads, head_dim]`; pair i is (i, i + head_dim / 2)."""
        swapped = heads.roll(self._half, -1)
        return (heads * self._cosines).add_(swapped.mul_(self._sines))
