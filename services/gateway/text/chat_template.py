"""A conversation to the one prompt text that its model was trained on."""

from dataclasses import dataclass

from services.gateway.errors import InvalidRequest, TemplateFailed
from services.gateway.text.models import TextModel
from services.gateway.text.template_pool import TemplatePool


@dataclass(frozen=True)
class ChatMessage:
    role: str
    content: str
    name: str | None = None

    def as_variable(self) -> dict[str, str]:
        """The shape that templates of the Hugging Face hub expect."""
        named = {} if self.name is None else {"name": self.name}
        return {"role": self.role, "content": self.content, **named}


async def render_prompt(
    pool: TemplatePool, model: TextModel, messages: tuple[ChatMessage, ...]
) -> str:
    """Raises InvalidRequest when the model has no template, or it fails on these messages."""
    if model.chat_template is None:
        message = "this model has no chat template: it cannot be asked through chat completions"
        raise InvalidRequest(message, code="no_chat_template", param="model")
    variables = {
        **model.special_tokens,
        "messages": [message.as_variable() for message in messages],
        "add_generation_prompt": True,
        "tools": None,  # templates may ask whether it is none, not whether it is defined
        "documents": None,
    }
    try:
        return await pool.render(model.chat_template, variables)
    except TemplateFailed as exc:
        message = f"the model's chat template failed: {exc}"
        raise InvalidRequest(message, code="chat_template_failed", param="messages") from exc
