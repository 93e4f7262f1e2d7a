"""What goes into the engine and what comes out of it. Plain values, no torch."""

import math
from dataclasses import dataclass

from libs.common.states import FinishReason
from services.worker.engine.errors import RequestRefused

MAX_LOGPROBS = 20
MIN_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class Sampling:
    max_tokens: int  # of all attempts together
    seed: int  # 64 bits; token i uses Philox(seed, i)
    temperature: float = 1.0  # 0 is greedy, and what is nearly 0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    min_p: float = 0.0
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    num_logprobs: int | None = None  # None: none wanted; 0: of the chosen token only
    min_tokens: int = 0  # of all attempts together; before that nothing ends the output
    repetition_penalty: float = 1.0  # of what is in prompt or output; 1 changes nothing
    presence_penalty: float = 0.0  # once for what is in the output
    frequency_penalty: float = 0.0  # for each time that it is
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, what is added), each id once

    @property
    def is_greedy(self) -> bool:
        """Below that a draw is the best token, or a division by what float32 takes for zero."""
        return self.temperature < MIN_TEMPERATURE

    @property
    def is_truncated(self) -> bool:
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0

    @property
    def is_adjusted(self) -> bool:
        """Whether the logits change for the whole output; `min_tokens` does so at first only."""
        has_penalty = self.presence_penalty != 0 or self.frequency_penalty != 0
        return has_penalty or self.repetition_penalty != 1 or bool(self.logit_bias)


@dataclass(frozen=True)
class Request:
    """One attempt at a generation.

    `generated_ids` are the tokens that earlier attempts produced: they are prefilled like the
    prompt, and the next token's index is their number.
    """

    request_id: str
    attempt: int
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    generated_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithms of the model's own distribution, before temperature and truncation."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (token id, logprob), most likely first


@dataclass(frozen=True)
class Output:
    """What one step produced for one request. A stop token is among the token ids."""

    request_id: str
    attempt: int
    start_index: int  # of the first token id, counted over all attempts
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None  # one per token id, where asked for
    finish: FinishReason | None = None
    error: str | None = None  # with FinishReason.ERROR only


def check_request(request: Request, *, vocab_size: int, max_context_tokens: int) -> None:
    """Raises RequestRefused for what can never be served, saying which number is wrong."""
    refuse = _Refusal(request.request_id)
    refuse.unless(len(request.prompt_ids) > 0, "the prompt is empty")
    num_tokens = len(request.prompt_ids) + len(request.generated_ids)
    refuse.unless(
        num_tokens < max_context_tokens,
        f"{num_tokens} tokens leave no room to generate in a context of {max_context_tokens}",
    )
    for ids in (request.prompt_ids, request.generated_ids):
        in_range = not ids or (min(ids) >= 0 and max(ids) < vocab_size)
        refuse.unless(in_range, f"a token id is outside the vocabulary of {vocab_size}")
    _check_sampling(request.sampling, refuse)
    _check_adjustments(request.sampling, vocab_size, refuse)


def _check_sampling(sampling: Sampling, refuse: "_Refusal") -> None:
    temperature, num_logprobs = sampling.temperature, sampling.num_logprobs or 0
    refuse.unless(sampling.max_tokens >= 1, f"max_tokens is {sampling.max_tokens}")
    refuse.unless(0 <= sampling.seed < 2**64, f"seed {sampling.seed} is not in [0, 2^64)")
    refuse.unless(0 <= temperature < math.inf, f"temperature is {temperature}")
    refuse.unless(0 < sampling.top_p <= 1, f"top_p {sampling.top_p} is not in (0, 1]")
    refuse.unless(sampling.top_k >= 0, f"top_k is {sampling.top_k}")
    refuse.unless(0 <= sampling.min_p <= 1, f"min_p {sampling.min_p} is not in [0, 1]")
    refuse.unless(0 <= num_logprobs <= MAX_LOGPROBS, f"{num_logprobs} log-probabilities asked for")


def _check_adjustments(sampling: Sampling, vocab_size: int, refuse: "_Refusal") -> None:
    least, most = sampling.min_tokens, sampling.max_tokens
    repetition, biases = sampling.repetition_penalty, sampling.logit_bias
    refuse.unless(0 <= least <= most, f"min_tokens {least} is not in [0, {most}]")
    refuse.unless(0 < repetition < math.inf, f"repetition_penalty is {repetition}")
    for name in ("presence_penalty", "frequency_penalty"):
        penalty: float = getattr(sampling, name)
        refuse.unless(math.isfinite(penalty), f"{name} is {penalty}")
    refuse.unless(len(dict(biases)) == len(biases), "logit_bias has a token twice")
    for token_id, bias in biases:
        is_in_vocabulary = 0 <= token_id < vocab_size
        refuse.unless(is_in_vocabulary, f"logit_bias: {token_id} is not below {vocab_size}")
        refuse.unless(math.isfinite(bias), f"logit_bias of {token_id} is {bias}")


class _Refusal:
    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def unless(self, is_valid: bool, reason: str) -> None:
        if not is_valid:
            raise RequestRefused(self._request_id, reason)
