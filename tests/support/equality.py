"""When two generations count as equal although their kernels round differently.

Tokens must be the same up to the first near tie: a position where the two best logits lie so close,
or the random number so close to a boundary between tokens, that rounding may decide. A difference
anywhere else fails at once; too many ties among the prompts fail at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from tests.support.failures import WrongTokens

FP32_LOGIT_GAP = 1e-4
BF16_ULPS = 2
DRAW_GAP = 1e-5
MAX_TIE_SHARE = 0.2


@dataclass
class TokenEquality:
    """Compares many generations and counts how many parted at a near tie."""

    num_compared: int = 0
    ties: list[str] = field(default_factory=list)  # which generation parted where

    def compare(
        self,
        name: str,
        actual: Sequence[int],
        expected: Sequence[int],
        is_near_tie: Callable[[int], bool],
    ) -> None:
        """`is_near_tie(i)` is asked for the first differing index only.

        It may assume that the tokens before i are the expected ones.
        """
        self.num_compared += 1
        index = _first_difference(actual, expected)
        if index is None:
            return
        if not is_near_tie(index):
            raise WrongTokens(
                f"{name}: token {index} differs and is no near tie: "
                f"{list(actual[index : index + 4])} instead of {list(expected[index : index + 4])}"
            )
        self.ties.append(f"{name} at token {index}")

    def judge(self, name: str, actual: Sequence[int], logits: torch.Tensor) -> None:
        """Each token must be the best of its row of `[tokens, vocabulary]` logits, or near it.

        Row i is what the reference makes of `actual[:i]`: also what follows a tie is judged.
        """
        self.num_compared += 1
        best = logits.argmax(-1).tolist()
        pairs = enumerate(zip(actual, best, strict=True))
        parted = [index for index, (ours, theirs) in pairs if ours != theirs]
        for index in parted:
            row, token_id = logits[index].float(), actual[index]
            gap = (row.max() - row[token_id]).item()
            if not gap <= _tie_gap(logits[index]):  # not a number either
                raise WrongTokens(
                    f"{name}: token {index} is {token_id} instead of {best[index]}, {gap:g} better"
                )
        if parted:
            self.ties.append(f"{name} at tokens {parted}")

    def check(self) -> None:
        """Fail when more than a fifth of the generations parted at a tie."""
        allowed = MAX_TIE_SHARE * self.num_compared
        if len(self.ties) > allowed:
            raise WrongTokens(
                f"{len(self.ties)} of {self.num_compared} parted at near ties: {self.ties}"
            )

    def __str__(self) -> str:
        return f"{self.num_compared} generations equal, {len(self.ties)} of them up to a near tie"


def _first_difference(actual: Sequence[int], expected: Sequence[int]) -> int | None:
    for index, (ours, theirs) in enumerate(zip(actual, expected, strict=False)):
        if ours != theirs:
            return index
    return None if len(actual) == len(expected) else min(len(actual), len(expected))


def is_greedy_near_tie(logits: torch.Tensor) -> bool:
    """Whether rounding may swap the two best of `[vocabulary]` logits, in their own dtype."""
    best, second = logits.float().topk(2).values.tolist()
    return bool(best - second <= _tie_gap(logits))


def _tie_gap(logits: torch.Tensor) -> float:
    """How far below the best of `[vocabulary]` logits another one is as good, in their dtype."""
    if logits.dtype is not torch.bfloat16:
        return FP32_LOGIT_GAP
    exponent = logits.float().max().abs().log2().floor().item()
    return float(BF16_ULPS * 2 ** (exponent - 7))


def is_draw_near_tie(
    logits: torch.Tensor,
    uniform: float,
    *,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
) -> bool:
    """Whether a number lies within DRAW_GAP of where the chosen token would change."""
    probabilities = torch.softmax(logits.double() / temperature, -1)
    kept, margin = _truncate(probabilities, top_p, top_k, min_p)
    boundaries = torch.cumsum(torch.where(kept, probabilities, 0.0), -1)
    distance = (boundaries / boundaries[-1] - uniform).abs().min().item()
    return min(distance, margin) <= DRAW_GAP


def draw(
    logits: torch.Tensor,
    uniform: float,
    *,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
) -> int:
    """The token that a number stands for, the slow way: float64, a full sort."""
    probabilities = torch.softmax(logits.double() / temperature, -1)
    kept, _ = _truncate(probabilities, top_p, top_k, min_p)
    boundaries = torch.cumsum(torch.where(kept, probabilities, 0.0), -1)
    return int((boundaries <= uniform * boundaries[-1]).sum())


def _truncate(
    probabilities: torch.Tensor, top_p: float, top_k: int, min_p: float
) -> tuple[torch.Tensor, float]:
    """Which tokens stay, and how close any of them is to the other side."""
    kept = torch.ones_like(probabilities, dtype=torch.bool)
    ordered = probabilities.sort(descending=True).values
    margin = float("inf")
    if top_k and top_k < len(ordered):
        kept &= probabilities >= ordered[top_k - 1]
        margin = min(margin, (ordered[top_k - 1] - ordered[top_k]).item())
    if top_p < 1:
        mass = probabilities[kept].sum()
        before = torch.cumsum(ordered, -1) - ordered
        least = ordered[before < top_p * mass][-1]
        margin = min(margin, (before - top_p * mass).abs().min().item())
        kept &= probabilities >= least
    if min_p > 0:
        kept &= probabilities >= min_p * ordered[0]
        margin = min(margin, (probabilities - min_p * ordered[0]).abs().min().item())
    return kept, margin
