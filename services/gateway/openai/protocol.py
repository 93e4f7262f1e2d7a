"""The request of `POST /v1/chat/completions`: what it may hold and what becomes of each parameter.

Every parameter of OpenAI's API is of one of three kinds. Supported ones have a type here. Those in
`IGNORED` change nothing that this server does. Those in `NEUTRAL_VALUES` would change the answer
in ways we do not have: a value other than a neutral one is refused, never silently dropped.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from services.gateway.errors import InvalidRequest
from services.gateway.openai.samplingfields import SamplingFields
from services.gateway.text.chat_template import ChatMessage
from services.gateway.text.validity import Text

IGNORED = (
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
)

NEUTRAL_VALUES: dict[str, tuple[object, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "n": (1,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "web_search_options": (),
}

_MAX_STOPS = 4
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class TextPart(_Part):
    type: Literal["text"]
    text: Text


class Message(_Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart] | None  # null from an assistant only
    name: Text | None = None
    # What our own answers, and the official client's objects made of them, carry besides.
    refusal: None = None
    annotations: Annotated[list[object], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of role {self.role} needs content")
        return self

    def as_chat_message(self) -> ChatMessage:
        """Templates know the role `developer` only by its older name."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return ChatMessage(_ROLES[self.role], text, self.name)


class StreamOptions(_Part):
    include_usage: bool = False
    include_obfuscation: bool = False  # none is ever added


StopString = Annotated[Text, StringConstraints(min_length=1, max_length=256)]


class ChatRequest(SamplingFields):
    """Parameters beyond these: see `IGNORED` and `NEUTRAL_VALUES`."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    model: Text = Field(min_length=1, max_length=256)
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=_MAX_STOPS)] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def check(self, max_messages: int) -> None:
        """What types cannot say. Raises InvalidRequest that names the parameter."""
        for name, value in (self.model_extra or {}).items():
            _check_extra(name, value)
        if self.top_logprobs is not None and not self.logprobs:
            raise _invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true")
        if self.stream_options is not None and not self.stream:
            raise _invalid("stream_options", "'stream_options' needs 'stream' to be true")
        if len(self.messages) > max_messages:
            text = f"{len(self.messages)} messages are too many, the limit is {max_messages}"
            raise _invalid("messages", text)


def _check_extra(name: str, value: Any) -> None:
    if value is None or name in IGNORED:
        return
    if name not in NEUTRAL_VALUES:
        message = f"unrecognized parameter: {name[:100]!r}"
        raise InvalidRequest(message, code="unknown_parameter", param=name[:100])
    if value not in NEUTRAL_VALUES[name] or isinstance(value, bool):
        message = f"{name!r} is not supported by this server; leave it out"
        raise InvalidRequest(message, code="unsupported_parameter", param=name)


def _invalid(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_value", param=param)
