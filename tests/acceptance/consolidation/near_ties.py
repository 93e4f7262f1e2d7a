"""Whether rounding may decide a token of a case: transformers is asked, after those before it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from libs.common.sampling import SamplingParameters
from services.worker.engine.sampling.adjustment import adjusted
from services.worker.engine.sampling.draw import Draw
from services.worker.engine.sampling.philox import uniform
from tests.acceptance.consolidation.cases import CaseRequest
from tests.support.checkpoints import byte_tokenizer
from tests.support.equality import is_draw_near_tie, is_greedy_near_tie

_TOKENIZER = byte_tokenizer()
_SYMBOLS = bytes_to_unicode()  # type: ignore[no-untyped-call]  # the library has no types


def token_id(text: bytes) -> int:
    """Of what the API says that a token is."""
    symbol = _SYMBOLS[text[0]] if len(text) == 1 else text.decode()
    found = _TOKENIZER.token_to_id(symbol)
    assert found is not None, f"no token {text!r}"
    return int(found)


def is_near_tie(folder: Path, request: CaseRequest, token_ids: Sequence[int], index: int) -> bool:
    """At the token of that index, after those before it. `folder` has the model."""
    sampling = _sampling(request)
    chat = f"<|user|>{request.prompt}<|end|><|assistant|>"
    before = [*_TOKENIZER.encode(chat).ids, *token_ids[:index]]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([before])).logits[:, -1]
    (scores,) = adjusted(logits, [Draw(sampling, index, before)])
    if sampling.is_greedy:
        return is_greedy_near_tie(scores)
    return is_draw_near_tie(
        *(scores, uniform(sampling.seed, index)),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
    )


def _sampling(request: CaseRequest) -> SamplingParameters:
    given = {k: v for k, v in request.parameters.items() if "logprobs" not in k}
    return SamplingParameters(**given)
