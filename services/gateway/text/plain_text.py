"""Tokenizes a prompt that is plain text, as it is: without a chat template."""

from array import array

from services.gateway.text.prompt_limits import check_length
from services.gateway.text.text_models import TextModel


async def tokenize_text(
    model: TextModel, text: str, tenant: str, context_tokens: int, *, has_special_tokens: bool
) -> "array[int]":
    """Special tokens in the text are what they are: the client owns all of the prompt.

    Raises PromptTooLong, TokenizerFailed.
    """
    check_length(text, model.tokenizer, context_tokens)
    prefix = model.tokenizer.facts.prefix_ids if has_special_tokens else ()
    return array("I", prefix) + await model.tokenizer.encode(text, None, tenant)
