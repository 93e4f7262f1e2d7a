"""Renders a conversation to the prompt that its model was trained on, and tokenizes it."""

from dataclasses import dataclass, replace

from services.gateway.errors import InvalidRequest, TemplateFailed
from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.template_pool import TemplatePool
from services.gateway.text.text_models import TextModel


@dataclass(frozen=True)
class ChatMessage:
    role: str
    content: str
    name: str | None = None

    def as_variable(self) -> dict[str, str]:
        """The shape that templates of the Hugging Face hub expect."""
        named = {} if self.name is None else {"name": self.name}
        return {"role": self.role, "content": self.content, **named}

    def quoted(self, guard: ControlTokenGuard) -> "ChatMessage":
        name = None if self.name is None else guard.quote(self.name)
        return replace(self, content=guard.quote(self.content), name=name)


async def tokenize_chat(
    pool: TemplatePool, model: TextModel, messages: tuple[ChatMessage, ...], tenant: str
) -> tuple[int, ...]:
    """The prompt's ids. Special tokens come from the template alone: in a message they are text.

    Raises InvalidRequest as `render_prompt` does, TokenizerFailed, NotServed.
    """
    guard = _guard_for(model, messages)
    if guard is not None:
        messages = tuple(message.quoted(guard) for message in messages)
    prompt = await render_prompt(pool, model, messages, tenant)
    return await model.tokenizer.encode(prompt, guard, tenant)


def _guard_for(model: TextModel, messages: tuple[ChatMessage, ...]) -> ControlTokenGuard | None:
    texts = [text for message in messages for text in (message.content, message.name or "")]
    try:
        return ControlTokenGuard.needed_for(texts, model.tokenizer.special_texts)
    except ValueError as exc:
        raise InvalidRequest(str(exc), code="invalid_value", param="messages") from exc


async def render_prompt(
    pool: TemplatePool, model: TextModel, messages: tuple[ChatMessage, ...], tenant: str
) -> str:
    """Raises InvalidRequest when the model has no template, or it fails on these messages."""
    if model.chat_template is None:
        message = (
            "this model has no chat template: ask it through /v1/completions, or give it one "
            "(chat_template in PATCH /api/v1/models/NAME, or hydraserve models set NAME "
            "--chat-template FILE)"
        )
        raise InvalidRequest(message, code="no_chat_template", param="model")
    variables = {
        **model.special_tokens,
        "messages": [message.as_variable() for message in messages],
        "add_generation_prompt": True,
        "tools": None,  # templates may ask whether it is none, not whether it is defined
        "documents": None,
    }
    try:
        return await pool.render(model.chat_template, variables, tenant)
    except TemplateFailed as exc:
        message = f"the model's chat template failed: {exc}"
        raise InvalidRequest(message, code="chat_template_failed", param="messages") from exc
