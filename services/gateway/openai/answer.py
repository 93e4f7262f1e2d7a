"""From generated tokens to the text, log-probabilities and counts that the client sees. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason
from services.gateway.generation.token_log import TokenBatch
from services.gateway.openai.responses import FinishText, Usage
from services.gateway.openai.token_logprobs import TokenLogprobs
from services.gateway.text.detokenizer import Detokenizer
from services.gateway.text.stop_strings import StopMatcher, StopResult
from services.gateway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class AnswerPiece:
    text: str
    logprobs: TokenLogprobs | None  # None where the client wants none
    offsets: Sequence[int]  # of the tokens of `logprobs` in the whole answer's text
    is_stopped: bool  # by a stop string: nothing may follow


def finish_text(reason: FinishReason, last: AnswerPiece) -> FinishText:
    """A stop string in the very last piece comes before the worker's own reason."""
    return "length" if reason is FinishReason.LENGTH and not last.is_stopped else "stop"


class Answer:
    """One answer as it grows. What ends it, token or string, is no part of its text."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: tuple[str, ...],
        sampling: SamplingParameters,
        num_prompt_tokens: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer.decode)
        self._matcher = StopMatcher(stops)
        self._end_ids = frozenset(sampling.stop_token_ids)
        self._min_tokens = sampling.min_tokens
        self._num_prompt_tokens = num_prompt_tokens
        self._num_chars = 0  # of the text so far, held back or not
        self.num_tokens = 0  # so far, the one with which a stop string was complete included

    @property
    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self._num_prompt_tokens,
            completion_tokens=self.num_tokens,
            total_tokens=self._num_prompt_tokens + self.num_tokens,
        )

    def push(self, batch: TokenBatch) -> AnswerPiece:
        """Token by token, so that what follows a stop string in the same batch does not count."""
        texts: list[str] = []
        logprobs = None if batch.logprobs is None else TokenLogprobs(self._tokenizer.token_bytes)
        offsets: list[int] = []
        found = StopResult("", is_stopped=False)
        for position, token_id in enumerate(batch.ids):
            self.num_tokens += 1
            if token_id in self._end_ids:
                continue
            if batch.logprobs is not None and logprobs is not None:
                logprobs.append(token_id, batch.logprobs[position])
                offsets.append(self._num_chars)
            text = self._detokenizer.push(token_id)
            self._num_chars += len(text)
            if self.num_tokens <= self._min_tokens:  # nothing may end it yet
                texts.append(text)
                continue
            found = self._matcher.push(text)
            texts.append(found.text)
            if found.is_stopped:
                break
        return AnswerPiece("".join(texts), logprobs, tuple(offsets), found.is_stopped)

    def finish(self) -> AnswerPiece:
        """What was held back, once the worker has finished."""
        found = self._matcher.push(self._detokenizer.flush())
        rest = "" if found.is_stopped else self._matcher.flush()
        return AnswerPiece(found.text + rest, None, (), found.is_stopped)


def total_usage(answers: Sequence[Answer]) -> Usage:
    """Of one HTTP request."""
    usages = [answer.usage for answer in answers]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        total_tokens=sum(usage.total_tokens for usage in usages),
    )
