"""What goes into the engine and what comes out of it. Plain values, no torch."""

from dataclasses import dataclass

from libs.common.sampling import SamplingError, SamplingParameters
from libs.common.states import FinishReason
from services.worker.engine.errors import RequestRefused


@dataclass(frozen=True)
class Request:
    """One attempt at a generation.

    `generated_ids` are the tokens that earlier attempts produced: they are prefilled like the
    prompt, and the next token's index is their number.
    """

    request_id: str
    attempt: int
    prompt_ids: tuple[int, ...]
    sampling: SamplingParameters
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
    try:
        request.sampling.check()
        request.sampling.check_vocabulary(vocab_size)
    except SamplingError as exc:
        raise RequestRefused(request.request_id, str(exc)) from exc


class _Refusal:
    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def unless(self, is_valid: bool, reason: str) -> None:
        if not is_valid:
            raise RequestRefused(self._request_id, reason)
