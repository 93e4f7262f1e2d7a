"""Renders a conversation to the prompt that its model was trained on, and tokenizes it."""

from array import array
from dataclasses import dataclass
from typing import Any

from services.gateway.errors import (
    InvalidRequest,
    MessagesRefused,
    TemplateFailed,
)
from services.gateway.text.template_pool import PromptLimit, RenderedPrompt, TemplatePool
from services.gateway.text.text_models import TextModel

_MAX_INITIALS = 16


@dataclass(frozen=True)
class ChatMessage:
    role: str
    content: str
    name: str | None = None

    def as_variable(self) -> dict[str, str]:
        """The shape that templates of the Hugging Face hub expect."""
        named = {} if self.name is None else {"name": self.name}
        return {"role": self.role, "content": self.content, **named}


async def tokenize_chat(
    pool: TemplatePool,
    model: TextModel,
    messages: tuple[ChatMessage, ...],
    tenant: str,
    context_tokens: int,
) -> "array[int]":
    """The prompt's ids. Special tokens come from the template alone: in a message they are text.

    Raises what `render_prompt` does, and TokenizerFailed.
    """
    prompt = await render_prompt(pool, model, messages, tenant, context_tokens)
    return await model.tokenizer.encode(prompt.text, prompt.guard, tenant)


async def render_prompt(
    pool: TemplatePool,
    model: TextModel,
    messages: tuple[ChatMessage, ...],
    tenant: str,
    context_tokens: int,
) -> RenderedPrompt:
    """Raises InvalidRequest when the model has no template, or it fails on these messages, and
    PromptTooLong when what it makes of them cannot fit the context."""
    if model.chat_template is None:
        message = (
            "this model has no chat template: ask it through /v1/completions, or give it one "
            "(chat_template in PATCH /api/v1/models/NAME, or hydraserve models set NAME "
            "--chat-template FILE)"
        )
        raise InvalidRequest(message, code="no_chat_template", param="model")
    try:
        return await pool.render(
            model.chat_template,
            _variables(model, messages),
            tenant,
            specials=_specials(model, messages),
            limit=_limit(model, context_tokens),
        )
    except MessagesRefused as exc:
        raise InvalidRequest(str(exc), code="invalid_value", param="messages") from exc
    except TemplateFailed as exc:
        message = f"the model's chat template failed: {exc}"
        raise InvalidRequest(message, code="chat_template_failed", param="messages") from exc


def _limit(model: TextModel, context_tokens: int) -> PromptLimit | None:
    bound = model.tokenizer.bound
    if bound is None:
        return None
    return PromptLimit(bound.max_chars(context_tokens), bound.uncounted)


def _variables(model: TextModel, messages: tuple[ChatMessage, ...]) -> dict[str, Any]:
    return {
        **model.special_tokens,
        "messages": [message.as_variable() for message in messages],
        "add_generation_prompt": True,
        "tools": None,  # templates may ask whether it is none, not whether it is defined
        "documents": None,
    }


def _specials(model: TextModel, messages: tuple[ChatMessage, ...]) -> tuple[str, ...]:
    """None where no message has a character that a special token begins with, as most have not:
    the search for all of them is another process's work."""
    initials = model.tokenizer.facts.special_initials
    texts = [text for message in messages for text in (message.content, message.name or "")]
    if len(initials) <= _MAX_INITIALS and not any(i in text for i in initials for text in texts):
        return ()
    return model.tokenizer.special_texts
