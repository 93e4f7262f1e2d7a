"""What a prompt is told that does not fit its model's context."""

from libs.common.tokenizers.prompt_bound import num_counted
from services.gateway.errors import InvalidRequest, PromptTooLong
from services.gateway.text.tokenizer import Tokenizer


def check_length(text: str, tokenizer: Tokenizer, context_tokens: int) -> None:
    """Before it is tokenized. Raises PromptTooLong for what cannot fit."""
    bound = tokenizer.bound
    if bound is None:
        return
    if num_counted(text, bound.uncounted) > bound.max_chars(context_tokens):
        raise PromptTooLong


def context_error(context_tokens: int, however: str, param: str) -> InvalidRequest:
    """In OpenAI's words, which clients look for."""
    message = f"This model's maximum context length is {context_tokens} tokens. However, {however}"
    return InvalidRequest(message, code="context_length_exceeded", param=param)


def too_long_error(context_tokens: int, param: str) -> InvalidRequest:
    """For PromptTooLong."""
    however = f"you requested more in the {param} alone. Please reduce the length of the {param}."
    return context_error(context_tokens, however, param)


def overrun_error(context_tokens: int, param: str, cause: str) -> InvalidRequest:
    """For TokenizerOverrun: nobody can tell how many tokens it has."""
    message = (
        f"the {param} cannot be tokenized, {cause}; "
        f"this model's maximum context length is {context_tokens} tokens"
    )
    return InvalidRequest(message, code="prompt_too_large", param=param)
