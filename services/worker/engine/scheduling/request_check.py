"""Refuses requests that an engine can never serve. No torch."""

from libs.common.sampling import SamplingError
from services.worker.engine_port import Request
from services.worker.errors import RequestRefused


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
