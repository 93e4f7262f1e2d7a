"""The parameters that decide how tokens are chosen and when the output ends.

OpenAI's by OpenAI's names and ranges; `top_k`, `min_p`, `repetition_penalty`, `min_tokens`,
`stop_token_ids` and `ignore_eos` by vLLM's. Null means the same as leaving a parameter out.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from libs.common.bus.messages import ModelFacts
from libs.common.sampling import MAX_BIASES, SamplingParameters
from services.gateway.errors import InvalidRequest

MAX_STOP_TOKEN_IDS: Final = 128
_MAX_BIAS: Final = 100
_MAX_INT: Final = 2**31 - 1


def _within(least: float, most: float) -> AfterValidator:
    def check(value: float) -> float:
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}")
        return value

    return AfterValidator(check)


def _share(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError("must be greater than 0 and at most 1")
    return value


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be greater than 0; 1 changes nothing")
    return value


def _top_k(value: int) -> int:
    """As vLLM: 0 and -1 both mean no limit."""
    if not -1 <= value <= _MAX_INT:
        raise ValueError(f"must be from 1 to {_MAX_INT}, or 0 or -1 for no limit")
    return max(0, value)


def _biases(value: object) -> dict[int, float]:
    if not isinstance(value, dict):
        raise ValueError("must be an object of token ids and their biases")
    if len(value) > MAX_BIASES:
        raise ValueError(f"{len(value)} entries are too many, the limit is {MAX_BIASES}")
    return {_token_id(key): _bias(key, bias) for key, bias in value.items()}


def _token_id(key: str) -> int:
    """There is one way of writing each, so that no token is named twice."""
    if len(key) > 10 or not (key.isascii() and key.isdigit()) or str(int(key)) != key:
        raise ValueError(f"each key must be a token id in decimal, not {key[:20]!r}")
    return int(key)


def _bias(key: str, bias: Any) -> float:
    is_number = isinstance(bias, int | float) and not isinstance(bias, bool)
    if is_number and -_MAX_BIAS <= bias <= _MAX_BIAS:
        return float(bias)
    raise ValueError(f"the bias of token {key} must be from -{_MAX_BIAS} to {_MAX_BIAS}")


TokenId = Annotated[int, _within(0, _MAX_INT)]


class SamplingFields(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: Annotated[float, _within(0, 2)] | None = None
    top_p: Annotated[float, AfterValidator(_share)] | None = None
    top_k: Annotated[int, AfterValidator(_top_k)] | None = None
    min_p: Annotated[float, _within(0, 1)] | None = None
    presence_penalty: Annotated[float, _within(-2, 2)] | None = None
    frequency_penalty: Annotated[float, _within(-2, 2)] | None = None
    repetition_penalty: Annotated[float, AfterValidator(_positive)] | None = None
    logit_bias: Annotated[dict[int, float], BeforeValidator(_biases)] | None = None
    min_tokens: Annotated[int, _within(0, _MAX_INT)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKEN_IDS)] | None = None
    ignore_eos: bool | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)

    @property
    def wanted_tokens(self) -> int | None:
        """The newer parameter wins; None: as many as the context allows."""
        return self.max_completion_tokens or self.max_tokens

    def sampling(
        self, summary: ModelFacts, *, max_tokens: int, seed: int, num_logprobs: int | None
    ) -> SamplingParameters:
        """Raises InvalidRequest for what does not fit this model or this answer."""
        self._check_min_tokens(max_tokens)
        biases = self.logit_bias or {}
        stops = tuple(self.stop_token_ids or ())
        _check_vocabulary("logit_bias", biases, summary.vocab_size)
        _check_vocabulary("stop_token_ids", stops, summary.vocab_size)
        ends = () if self.ignore_eos else summary.eos_token_ids
        given = self.model_dump(include=_PLAIN, exclude_none=True)
        return SamplingParameters(
            **given,
            max_tokens=max_tokens,
            seed=seed,
            num_logprobs=num_logprobs,
            stop_token_ids=tuple(dict.fromkeys((*ends, *stops))),
            logit_bias=tuple(biases.items()),
        )

    def _check_min_tokens(self, max_tokens: int) -> None:
        if self.min_tokens is not None and self.min_tokens > max_tokens:
            message = f"'min_tokens' must be from 0 to {max_tokens}, the most this answer may have"
            raise InvalidRequest(message, code="invalid_value", param="min_tokens")


_PLAIN: Final = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
}  # what the worker is told as it came, or not at all


def _check_vocabulary(param: str, token_ids: Iterable[int], vocab_size: int) -> None:
    for token_id in token_ids:
        if token_id >= vocab_size:
            message = f"{param!r}: token {token_id} is not from 0 to {vocab_size - 1}"
            raise InvalidRequest(message, code="invalid_value", param=param)
