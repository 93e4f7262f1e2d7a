"""One measured request whose right answer is known, and what became of it."""

import json
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import httpx

from tests.acceptance.client import Client, Json, chat_body
from tests.acceptance.pipeline.driving.expected_answers import ExpectedAnswer
from tests.support.failures import WrongTokens

TIMEOUT_HEADER = "X-Request-Timeout-Ms"


@dataclass(frozen=True)
class Question:
    model: str
    expected: ExpectedAnswer
    num_tokens: int
    timeout_s: float = 120.0  # the request's own deadline

    @property
    def text(self) -> str:
        """The right answer."""
        return self.expected.text(self.num_tokens)


@dataclass
class QuestionResult:
    """Times are seconds since the request was sent."""

    question: Question
    status: int | None = None  # None: the connection broke before an answer
    request_id: str | None = None
    retry_after_s: int | None = None
    text: str = ""
    finish_reason: str | None = None
    error: Json | None = None
    num_tokens: int | None = None  # as the answer's usage says
    num_late_frames: int = 0  # that came after the end
    is_cut: bool = False  # the connection broke
    first_text_s: float | None = None
    ended_s: float | None = None

    @property
    def is_right(self) -> bool:
        """The whole undisturbed answer, every token once."""
        return (
            self.status == 200
            and self.error is None
            and not self.is_cut
            and self.text == self.question.text
            and self.num_tokens == self.question.num_tokens
            and self.finish_reason == "length"
            and self.num_late_frames == 0
        )

    @property
    def is_refused(self) -> bool:
        """There is too much to do, and it was told when to come back."""
        return self.status == 429 and (self.retry_after_s or 0) >= 1

    @property
    def error_code(self) -> str | None:
        return None if self.error is None else str(self.error["code"])

    @property
    def is_right_so_far(self) -> bool:
        """What came before it broke is the beginning of the right answer."""
        return self.question.text.startswith(self.text)

    @property
    def has_wrong_tokens(self) -> bool:
        """What came is no beginning of the right answer, or is called whole and is not."""
        is_called_whole = self.finish_reason is not None and self.error is None and not self.is_cut
        return not self.is_right_so_far or (is_called_whole and not self.is_right)


def require_right_tokens(answers: Iterable[QuestionResult]) -> None:
    """Of those that broke: as far as they came. Raises WrongTokens."""
    for asked in answers:
        if asked.has_wrong_tokens:
            raise WrongTokens(f"{asked}, not {asked.question.text!r}")


async def ask(
    client: Client, question: Question, into: QuestionResult | None = None
) -> QuestionResult:
    """Never raises for what the stack does. `into` shows what has come so far."""
    asked = into or QuestionResult(question)
    began_s = time.monotonic()
    parameters = {
        "max_tokens": question.num_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body = chat_body(question.model, question.expected.prompt, parameters)
    headers = {TIMEOUT_HEADER: str(int(1000 * question.timeout_s))}
    try:
        async with client.http.stream(
            "POST", "/v1/chat/completions", json=body, headers=headers
        ) as response:
            await _read(response, asked, began_s)
    except httpx.TransportError:
        asked.is_cut = True
    asked.ended_s = time.monotonic() - began_s
    return asked


async def _read(response: httpx.Response, asked: QuestionResult, began_s: float) -> None:
    asked.status = response.status_code
    asked.request_id = response.headers.get("x-request-id")
    if response.status_code != 200:
        retry_after = response.headers.get("retry-after")
        asked.retry_after_s = None if retry_after is None else int(retry_after)
        asked.error = json.loads(await response.aread())["error"]
        return
    async for chunk in _chunks(response.aiter_lines(), asked):
        _take(chunk, asked)
        if asked.text and asked.first_text_s is None:
            asked.first_text_s = time.monotonic() - began_s


async def _chunks(lines: AsyncIterator[str], asked: QuestionResult) -> AsyncIterator[Json]:
    has_ended = False
    async for line in lines:
        if line.startswith("data: "):
            asked.num_late_frames += has_ended
            has_ended |= line == "data: [DONE]"
            if not has_ended:
                yield json.loads(line[6:])


def _take(chunk: Json, asked: QuestionResult) -> None:
    asked.error = chunk.get("error", asked.error)
    if chunk.get("usage"):
        asked.num_tokens = chunk["usage"]["completion_tokens"]
    for choice in chunk.get("choices", ()):
        text = choice["delta"].get("content") or ""
        asked.num_late_frames += bool(text and asked.finish_reason)
        asked.text += text
        asked.finish_reason = choice.get("finish_reason") or asked.finish_reason
