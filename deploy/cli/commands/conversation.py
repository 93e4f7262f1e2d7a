"""What was said so far, as the chat API wants it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Message:
    role: str  # system, user or assistant
    content: str


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...] = ()

    @classmethod
    def begin(cls, system: str | None) -> "Conversation":
        return cls(() if system is None else (Message("system", system),))

    def asked(self, question: str) -> "Conversation":
        return replace(self, messages=(*self.messages, Message("user", question)))

    def answered(self, text: str) -> "Conversation":
        """A question that got no word of an answer is forgotten."""
        if not text:
            return replace(self, messages=self.messages[:-1])
        return replace(self, messages=(*self.messages, Message("assistant", text)))

    def body(self) -> Sequence[dict[str, str]]:
        return [{"role": m.role, "content": m.content} for m in self.messages]
