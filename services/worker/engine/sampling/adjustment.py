"""What a request does to the logits before anything is chosen: bias, penalties, no early end.

Every row is adjusted by its own request and its own tokens alone. The counts are taken from the
tokens each time, so that nothing of them can be lost with a worker. In the order of vLLM and
transformers:

- logit bias (OpenAI): `logit[t] += bias[t]`;
- repetition penalty r (Keskar et al., "CTRL"; transformers' RepetitionPenaltyLogitsProcessor), for
  every t in prompt or output: `logit[t] = logit[t] / r if logit[t] > 0 else logit[t] * r`;
- frequency and presence penalties (OpenAI), with c[t] the times that t is in the output:
  `logit[t] -= c[t] * frequency + (c[t] > 0) * presence`;
- below `min_tokens` of output, what would end it cannot be chosen (transformers'
  MinNewTokensLengthLogitsProcessor).
"""

from array import array
from collections.abc import Iterable, Sequence

import torch

from services.worker.engine.sampling.draw import Draw

_LARGEST = torch.finfo(torch.float32).max


def adjusted(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """A float32 copy of `[rows, vocabulary]`, changed in the rows whose draws ask for it."""
    scores = logits.to(torch.float32, copy=True)
    for row, draw in zip(scores, draws, strict=True):
        if draw.is_adjusted:
            _adjust(row, draw)
    return scores


def _adjust(scores: torch.Tensor, draw: Draw) -> None:
    """One row of `[vocabulary]`, in place."""
    sampling = draw.sampling
    if sampling.logit_bias:
        biases = dict(sampling.logit_bias)
        amounts = torch.tensor(list(biases.values()), dtype=torch.float64, device=scores.device)
        _add(scores, _index(scores, biases), amounts)
    if sampling.repetition_penalty != 1:
        _penalize_repetition(scores, draw.token_ids, sampling.repetition_penalty)
    if sampling.frequency_penalty != 0 or sampling.presence_penalty != 0:
        token_ids, counts = torch.unique(_index(scores, draw.output_ids), return_counts=True)
        amounts = counts.double() * sampling.frequency_penalty + sampling.presence_penalty
        _add(scores, token_ids, -amounts)
    if draw.is_kept_going:
        ends = [token_id for token_id in draw.ending_ids if 0 <= token_id < scores.shape[0]]
        scores[_index(scores, ends)] = -_LARGEST  # finite, should nothing else be left


def _penalize_repetition(scores: torch.Tensor, token_ids: Iterable[int], penalty: float) -> None:
    """A token that stands there twice is written twice, with the same value."""
    index = _index(scores, token_ids)
    values = scores[index].double()
    _put(scores, index, torch.where(values > 0, values / penalty, values * penalty))


def _add(scores: torch.Tensor, index: torch.Tensor, amounts: torch.Tensor) -> None:
    _put(scores, index, scores[index].double() + amounts)


def _put(scores: torch.Tensor, index: torch.Tensor, values: torch.Tensor) -> None:
    """However large a penalty, no score becomes infinite."""
    scores[index] = values.clamp_(-_LARGEST, _LARGEST).float()


def _index(scores: torch.Tensor, token_ids: Iterable[int]) -> torch.Tensor:
    """Where the scores are. By way of an array, which takes a quarter of a list's time."""
    buffer = array("q", token_ids)
    index = torch.frombuffer(buffer, dtype=torch.long) if buffer else torch.empty(0).long()
    return index.to(scores.device)
