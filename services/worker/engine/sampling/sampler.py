"""Samples tokens from logits.

A draw depends on the row's logits, the request's settings and tokens and one random number, never
on the rows beside it. Truncation keeps every token that is at least as likely as a threshold, and
the draw walks the kept tokens in vocabulary order: so equal probabilities, frequent in bfloat16,
need no order among themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from libs.common.sampling import SamplingParameters
from services.worker.engine.sampling.adjustment import adjusted
from services.worker.engine.sampling.draw import Draw
from services.worker.engine.sampling.philox import uniform
from services.worker.engine_port import TokenLogprob

_CANDIDATES = 256  # enough for nearly every truncation; rows where not are sorted whole
# Logits looked at together: drawing takes some forty bytes beside each.
_BLOCK_VALUES = 2**23


@dataclass(frozen=True)
class Sampled:
    token_id: int
    logprob: TokenLogprob | None  # where asked for


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Sampled | None]:
    """Choose one token per row of `[rows, vocabulary]`; None where a row is not finite."""
    num_rows = max(1, _BLOCK_VALUES // logits.shape[-1])
    blocks = [slice(start, start + num_rows) for start in range(0, len(draws), num_rows)]
    return [token for block in blocks for token in _sample(logits[block], draws[block])]


def _sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Sampled | None]:
    peaks, best = logits.max(-1)
    is_finite = [math.isfinite(peak) for peak in peaks.tolist()]  # a NaN is a row's maximum
    scores = logits
    if any(draw.is_adjusted for draw in draws):
        scores = adjusted(logits, draws)
        best = scores.argmax(-1)
    token_ids: list[int] = best.tolist()
    drawn = [
        row for row, draw in enumerate(draws) if is_finite[row] and not draw.sampling.is_greedy
    ]
    if drawn:
        chosen = _draw(scores[drawn].float(), [draws[row] for row in drawn])
        for row, token_id in zip(drawn, chosen, strict=True):
            token_ids[row] = token_id
    return [
        Sampled(token_ids[row], _logprob(logits[row], token_ids[row], draw.sampling.num_logprobs))
        if is_finite[row]
        else None
        for row, draw in enumerate(draws)
    ]


def _draw(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    """Inverse transform sampling, the cumulative sum in float64."""
    device = logits.device
    temperatures = torch.tensor([draw.sampling.temperature for draw in draws], device=device)
    # The maximum goes first, so that no temperature, however low, divides into an infinity.
    scaled = (logits - logits.amax(-1, keepdim=True)).div_(temperatures.unsqueeze(1))
    probabilities = scaled.softmax(-1)
    if any(draw.sampling.is_truncated for draw in draws):
        thresholds = _thresholds(probabilities, [draw.sampling for draw in draws])
        probabilities = probabilities.masked_fill(probabilities < thresholds, 0.0)
    cumulative = probabilities.double().cumsum(-1)  # faster than cumsum's own dtype
    uniforms = [uniform(draw.sampling.seed, draw.index) for draw in draws]
    targets = torch.tensor(uniforms, dtype=torch.float64, device=device).unsqueeze(1)
    targets *= cumulative[:, -1:]
    chosen: list[int] = torch.searchsorted(cumulative, targets, right=True).squeeze(1).tolist()
    return chosen


def _thresholds(
    probabilities: torch.Tensor, samplings: Sequence[SamplingParameters]
) -> torch.Tensor:
    """`[rows, 1]`: the least probability that top-k, then top-p, then min-p leave."""
    values = probabilities.topk(min(_CANDIDATES, probabilities.shape[-1])).values
    thresholds, is_short = _thresholds_among(values, probabilities, samplings)
    for row in is_short.nonzero().flatten().tolist():
        own = slice(row, row + 1)
        values = probabilities[own].sort(descending=True).values
        thresholds[own], _ = _thresholds_among(values, probabilities[own], samplings[own])
    return thresholds


def _thresholds_among(
    values: torch.Tensor, probabilities: torch.Tensor, samplings: Sequence[SamplingParameters]
) -> tuple[torch.Tensor, torch.Tensor]:
    """`[rows, 1]` thresholds by `[rows, candidates]` largest probabilities in descending order, and
    `[rows]` whether they are too few to tell."""
    least_k = _least_of_top_k(values, samplings)
    mass = torch.where(probabilities >= least_k, probabilities, 0.0).sum(-1, keepdim=True)
    is_in_top_p = _is_in_top_p(values, mass, samplings)
    num_kept = is_in_top_p.sum(-1, keepdim=True)
    least_p = values.gather(1, num_kept.sub(1).clamp_(min=0)).where(num_kept > 0, 0.0)
    least = torch.maximum(torch.maximum(least_k, least_p), _least_of_min_p(values, samplings))
    num_candidates = values.shape[-1]
    if num_candidates == probabilities.shape[-1]:
        return least, torch.zeros_like(is_in_top_p[:, -1])
    is_wider = [sampling.top_k > num_candidates for sampling in samplings]
    return least, is_in_top_p[:, -1] | torch.tensor(is_wider, device=values.device)


def _least_of_top_k(values: torch.Tensor, samplings: Sequence[SamplingParameters]) -> torch.Tensor:
    """`[rows, 1]`: the k-th largest probability, 0 without a limit."""
    last = [min(sampling.top_k, values.shape[-1]) - 1 for sampling in samplings]
    positions = torch.tensor(last, device=values.device).unsqueeze(1)
    return values.gather(1, positions.clamp(min=0)).where(positions >= 0, 0.0)


def _is_in_top_p(
    values: torch.Tensor, mass: torch.Tensor, samplings: Sequence[SamplingParameters]
) -> torch.Tensor:
    """`[rows, candidates]`: whether what precedes a candidate is less than top-p of the mass.

    True for a first part of each row, for none of a row without top-p.
    """
    shares = [sampling.top_p if sampling.top_p < 1 else 0.0 for sampling in samplings]
    limits = torch.tensor(shares, dtype=torch.float64, device=values.device).unsqueeze(1) * mass
    return values.double().cumsum(-1) - values < limits


def _least_of_min_p(values: torch.Tensor, samplings: Sequence[SamplingParameters]) -> torch.Tensor:
    shares = torch.tensor([sampling.min_p for sampling in samplings], device=values.device)
    return shares.unsqueeze(1) * values[:, :1]


def _logprob(logits: torch.Tensor, token_id: int, num_top: int | None) -> TokenLogprob | None:
    if num_top is None:
        return None
    logprobs = logits.float().log_softmax(-1)
    values, ids = logprobs.topk(num_top)
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(float(logprobs[token_id]), top)
