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


class JsonAnswer(BaseModel):
    model_config = ConfigDict(frozen=True)

    def encoded(self) -> bytes:
        return self.model_dump_json(exclude_unset=True).encode()


class ErrorDetail(JsonAnswer):
    message: str
    type: str
    param: str | None
    code: str
    reason: str  # as the header X-Hydra-Reason, which an event of a stream has not


class ErrorBody(JsonAnswer):
    error: ErrorDetail


class Usage(JsonAnswer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Alternative(JsonAnswer):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative):
    top_logprobs: list[Alternative]


class Logprobs(JsonAnswer):
    content: list[TokenLogprob]


class AssistantMessage(JsonAnswer):
    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(JsonAnswer):
    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: FinishText


class ChatCompletion(JsonAnswer):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Delta(JsonAnswer):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(JsonAnswer):
    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishText | None


class ChatChunk(JsonAnswer):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None  # set, perhaps to None, only where the client asked for it


class TextLogprobs(JsonAnswer):
    """Lists of equal length. Offsets count the characters of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(JsonAnswer):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishText | None  # None in all chunks but the last one


class TextCompletion(JsonAnswer):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None  # of chunks as with ChatChunk


class Model(JsonAnswer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(JsonAnswer):
    object: Literal["list"]
    data: list[Model]
    has_more: bool
