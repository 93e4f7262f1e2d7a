"""Checks a chat template before it is taken for a model: by rendering a short conversation."""

from services.gateway.errors import InvalidRequest, TemplateFailed
from services.gateway.text.template_pool import TemplatePool

# Which special tokens its model has is not known yet; what is undefined cannot be joined to text.
_SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_SAMPLE = {
    **dict.fromkeys(_SPECIAL_TOKENS, ""),
    "messages": [{"role": "user", "content": "Hello"}],
    "add_generation_prompt": True,
    "tools": None,
    "documents": None,
}


async def check_template(pool: TemplatePool, template: str, tenant: str) -> None:
    """In a child process with limits, as every render. Raises InvalidRequest, NotServed."""
    try:
        await pool.render(template, _SAMPLE, tenant)
    except TemplateFailed as exc:
        message = f"'chat_template' fails on a conversation of one message: {exc}"
        raise InvalidRequest(message, code="chat_template_failed", param="chat_template") from exc
