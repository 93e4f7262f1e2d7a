"""The request of `POST /v1/completions`."""

from typing import Annotated, Final

from pydantic import Discriminator, Field, Tag

from services.gateway.errors import InvalidRequest
from services.gateway.openai.requests.generation_request import GenerationRequest, invalid
from services.gateway.text.validity import Text

MAX_PROMPTS: Final = 32
_DEFAULT_TOKENS: Final = 16

# As cheap to check as it gets: a prompt may have a hundred thousand of them.
_TokenId = Annotated[int, Field(ge=0, lt=2**31)]
_Ids = Annotated[list[_TokenId], Field(min_length=1, fail_fast=True)]
_Several = Field(min_length=1, max_length=MAX_PROMPTS)


def _kind(value: object) -> str:
    """By the first element, so that what is wrong with the others can be told. Names with a space
    do not appear in the path of an error."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int):
        return "token ids"
    if isinstance(first, list):
        return "lists of token ids"
    return "several texts" if isinstance(value, list) else "one text"


_AnyPrompt = Annotated[
    Annotated[Text, Tag("one text")]
    | Annotated[_Ids, Tag("token ids")]
    | Annotated[list[Text], _Several, Tag("several texts")]
    | Annotated[list[_Ids], _Several, Tag("lists of token ids")],
    Discriminator(_kind),
]
Prompt = str | tuple[int, ...]


class CompletionRequest(GenerationRequest):
    prompt_param, default_tokens = "prompt", _DEFAULT_TOKENS

    prompt: _AnyPrompt
    logprobs: int | None = Field(None, ge=0, le=20)
    # Whether the tokenizer puts before a text what the model was trained with; of ids, never.
    add_special_tokens: bool | None = None

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def has_special_tokens(self) -> bool:
        return self.add_special_tokens is not False

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Each one gets an answer of its own, in this order."""
        if isinstance(self.prompt, str):
            return (self.prompt,)
        if isinstance(self.prompt[0], int):
            return (_ids(self.prompt),)
        return tuple(part if isinstance(part, str) else _ids(part) for part in self.prompt)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises InvalidRequest for an id that the model does not have."""
        for prompt in self.prompts:
            if not isinstance(prompt, str) and max(prompt) >= vocab_size:
                raise _not_in_vocabulary(max(prompt), vocab_size)


def _ids(part: object) -> tuple[int, ...]:
    assert isinstance(part, list)
    return tuple(part)


def _not_in_vocabulary(token_id: int, vocab_size: int) -> InvalidRequest:
    return invalid("prompt", f"'prompt': token {token_id} is not from 0 to {vocab_size - 1}")
