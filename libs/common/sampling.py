"""How a request's tokens are chosen: the parameters, from the gateway to every engine.

One class for messages, frames and engines, with the names that vLLM uses. Ranges that are OpenAI's
own are the gateway's; what is checked here is what an engine can compute. Stdlib only.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Final

MAX_LOGPROBS: Final = 20
MAX_BIASES: Final = 300
MIN_TEMPERATURE: Final = 1e-5


class SamplingError(ValueError):
    """`field` has a value that no engine can use; the text is for people."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True)
class SamplingParameters:
    # Where pydantic reads one of these, unknown fields are refused as in any message.
    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    max_tokens: int  # of all attempts together
    seed: int  # 64 bits; token i uses Philox(seed, i). The gateway always sets one
    temperature: float = 1.0  # 0 is greedy, and what is nearly 0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()  # the model's own among them, unless ignore_eos
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

    def check(self) -> None:
        """Raises SamplingError for the first value that no engine can use."""
        for limit in chain(_limits(self), _adjustment_limits(self)):
            if not limit.is_kept:
                raise SamplingError(limit.field, limit.reason)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises SamplingError for a bias of what is no token of the model."""
        for token_id, _ in self.logit_bias:
            if token_id >= vocab_size:
                reason = f"logit_bias: {token_id} is not below {vocab_size}"
                raise SamplingError("logit_bias", reason)


@dataclass(frozen=True)
class _Limit:
    field: str
    is_kept: bool
    reason: str  # why not, with the value


def _limits(given: SamplingParameters) -> Iterator[_Limit]:
    temperature, num_logprobs = given.temperature, given.num_logprobs or 0
    yield _Limit("max_tokens", given.max_tokens >= 1, f"max_tokens is {given.max_tokens}")
    yield _Limit("seed", 0 <= given.seed < 2**64, f"seed {given.seed} is not in [0, 2^64)")
    yield _Limit("temperature", 0 <= temperature < math.inf, f"temperature is {temperature}")
    yield _Limit("top_p", 0 < given.top_p <= 1, f"top_p {given.top_p} is not in (0, 1]")
    yield _Limit("top_k", given.top_k >= 0, f"top_k is {given.top_k}")
    yield _Limit("min_p", 0 <= given.min_p <= 1, f"min_p {given.min_p} is not in [0, 1]")
    is_countable = 0 <= num_logprobs <= MAX_LOGPROBS
    yield _Limit("num_logprobs", is_countable, f"{num_logprobs} log-probabilities asked for")
    are_tokens = all(token_id >= 0 for token_id in given.stop_token_ids)
    yield _Limit("stop_token_ids", are_tokens, "stop_token_ids: an id is below 0")


def _adjustment_limits(given: SamplingParameters) -> Iterator[_Limit]:
    least, most, repetition = given.min_tokens, given.max_tokens, given.repetition_penalty
    yield _Limit("min_tokens", 0 <= least <= most, f"min_tokens {least} is not in [0, {most}]")
    is_positive = 0 < repetition < math.inf
    yield _Limit("repetition_penalty", is_positive, f"repetition_penalty is {repetition}")
    for name in ("presence_penalty", "frequency_penalty"):
        penalty: float = getattr(given, name)
        yield _Limit(name, math.isfinite(penalty), f"{name} is {penalty}")
    yield from _bias_limits(given.logit_bias)


def _bias_limits(biases: tuple[tuple[int, float], ...]) -> Iterator[_Limit]:
    field = "logit_bias"
    yield _Limit(field, len(biases) <= MAX_BIASES, f"logit_bias has {len(biases)} entries")
    yield _Limit(field, len(dict(biases)) == len(biases), "logit_bias has a token twice")
    for token_id, bias in biases:
        yield _Limit(field, token_id >= 0, f"logit_bias: {token_id} is no token")
        yield _Limit(field, math.isfinite(bias), f"logit_bias of {token_id} is {bias}")
