"""The answers of the OpenAI API, as JSON. Fields that are not set do not appear."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

# What the document says of a stream: with `"stream": true` instead of the JSON.
EVENT_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The answer: JSON, or with `stream` server-sent events",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "string",
                    "description": "Chunks as `data: {…}`, then `data: [DONE]`. While a start is "
                    "waited for, comments (`: progress {…}`). What breaks it is the last event, "
                    '`data: {"error": {…}}`, with the body that errors have.',
                }
            }
        },
    }
}

FinishText = Literal["stop", "length"]


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True)

    def encoded(self) -> bytes:
        return self.model_dump_json(exclude_unset=True).encode()


class ErrorDetail(_Json):
    message: str
    type: str
    param: str | None
    code: str
    reason: str  # as the header X-Hydra-Reason, which an event of a stream has not


class ErrorBody(_Json):
    error: ErrorDetail


class Usage(_Json):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Alternative(_Json):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative):
    top_logprobs: list[Alternative]


class Logprobs(_Json):
    content: list[TokenLogprob]


class AssistantMessage(_Json):
    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(_Json):
    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: FinishText


class ChatCompletion(_Json):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Delta(_Json):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(_Json):
    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishText | None


class ChatChunk(_Json):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None  # set, perhaps to None, only where the client asked for it


class Model(_Json):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(_Json):
    object: Literal["list"]
    data: list[Model]
