"""The request of `POST /v1/chat/completions`."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.gateway.openai.requests.generation_request import GenerationRequest, invalid
from services.gateway.text.chat_template import ChatMessage
from services.gateway.text.validity import Text

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class _Part(BaseModel):
    """Clients add keys of their own to messages and their parts: those change nothing."""

    model_config = ConfigDict(strict=True, extra="ignore")


class TextPart(_Part):
    type: Literal["text"]
    text: Text


_Nothing = Annotated[list[object], Field(max_length=0)] | None


class Message(_Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: (
        Text | Annotated[list[TextPart], Field(fail_fast=True)] | None
    )  # null from an assistant only
    name: Text | None = None
    # What would change the answer in ways that we do not have, unless it says nothing.
    audio: None = None
    function_call: None = None
    partial: Literal[False] | None = None
    prefix: Literal[False] | None = None
    refusal: Literal[""] | None = None
    tool_calls: _Nothing = None

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


class ChatRequest(GenerationRequest):
    prompt_param = "messages"

    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(min_length=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def check(self, max_messages: int) -> None:
        """What types cannot say. Raises InvalidRequest that names the parameter."""
        self.check_common()
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true")
        if len(self.messages) > max_messages:
            text = f"{len(self.messages)} messages are too many, the limit is {max_messages}"
            raise invalid("messages", text)
