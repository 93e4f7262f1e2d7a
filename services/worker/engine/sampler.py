"""From logits to tokens.

A draw depends on the row's logits, the request's settings and tokens and one random number, never
on the rows beside it. Truncation keeps every token that is at least as likely as a threshold, and
the draw walks the kept tokens in vocabulary order: so equal probabilities, frequent in bfloat16,
need no order among themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.worker.engine.adjustment import adjusted
from services.worker.engine.draw import Draw
from services.worker.engine.philox import uniform
from services.worker.engine.request import Sampling, TokenLogprob

_CANDIDATES = 256  # enough for nearly every truncation; more are taken where not


@dataclass(frozen=True)
class Sampled:
    token_id: int
    logprob: TokenLogprob | None  # where asked for


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Sampled | None]:
    """Choose one token per row of `[rows, vocabulary]`; None where a row is not finite."""
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


def _thresholds(probabilities: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """`[rows, 1]`: the least probability that top-k, then top-p, then min-p leave."""
    vocab_size = probabilities.shape[-1]
    num_candidates = max(_CANDIDATES, *(sampling.top_k for sampling in samplings))
    while True:
        # Descending; few rows need more than the first candidates.
        values = probabilities.topk(min(num_candidates, vocab_size)).values
        least_k = _least_of_top_k(values, samplings)
        mass = torch.where(probabilities >= least_k, probabilities, 0.0).sum(-1, keepdim=True)
        is_in_top_p = _is_in_top_p(values, mass, samplings)
        if values.shape[-1] == vocab_size or not is_in_top_p[:, -1].any():
            break
        num_candidates *= 16
    num_kept = is_in_top_p.sum(-1, keepdim=True)
    least_p = values.gather(1, num_kept.sub(1).clamp_(min=0)).where(num_kept > 0, 0.0)
    return torch.maximum(torch.maximum(least_k, least_p), _least_of_min_p(values, samplings))


def _least_of_top_k(values: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """`[rows, 1]`: the k-th largest probability, 0 without a limit."""
    last = [min(sampling.top_k, values.shape[-1]) - 1 for sampling in samplings]
    positions = torch.tensor(last, device=values.device).unsqueeze(1)
    return values.gather(1, positions.clamp(min=0)).where(positions >= 0, 0.0)


def _is_in_top_p(
    values: torch.Tensor, mass: torch.Tensor, samplings: Sequence[Sampling]
) -> torch.Tensor:
    """`[rows, candidates]`: whether what precedes a candidate is less than top-p of the mass.

    True for a first part of each row, for none of a row without top-p.
    """
    shares = [sampling.top_p if sampling.top_p < 1 else 0.0 for sampling in samplings]
    limits = torch.tensor(shares, dtype=torch.float64, device=values.device).unsqueeze(1) * mass
    return values.double().cumsum(-1) - values < limits


def _least_of_min_p(values: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    shares = torch.tensor([sampling.min_p for sampling in samplings], device=values.device)
    return shares.unsqueeze(1) * values[:, :1]


def _logprob(logits: torch.Tensor, token_id: int, num_top: int | None) -> TokenLogprob | None:
    if num_top is None:
        return None
    logprobs = logits.float().log_softmax(-1)
    values, ids = logprobs.topk(num_top)
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(float(logprobs[token_id]), top)
