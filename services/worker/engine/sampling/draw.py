"""What choosing one token depends on, besides the logits. Plain values, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.sampling import SamplingParameters


@dataclass(frozen=True)
class Draw:
    """How to choose the next token of one row."""

    sampling: SamplingParameters
    index: int  # of the token to choose, counted over all attempts
    token_ids: Sequence[int] = ()  # prompt and output so far: the last `index` are output
    eos_token_ids: frozenset[int] = frozenset()  # the model's own

    @property
    def is_adjusted(self) -> bool:
        """Whether the model's logits are not taken as they are."""
        return self.sampling.is_adjusted or self.is_kept_going

    @property
    def is_kept_going(self) -> bool:
        """Whether the token may not be one that ends the output."""
        return self.index < self.sampling.min_tokens

    @property
    def output_ids(self) -> Sequence[int]:
        """Over all attempts: what an earlier one generated is output here too, never prompt."""
        return self.token_ids[len(self.token_ids) - self.index :]

    @property
    def ending_ids(self) -> frozenset[int]:
        stops = frozenset(self.sampling.stop_token_ids)
        return stops if self.sampling.ignore_eos else stops | self.eos_token_ids
