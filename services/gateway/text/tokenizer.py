"""One model's tokenizer: text to ids in a child process, ids to text at once."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.tokenizers.prompt_bound import PromptBound
from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.tokenizer_pool import (
    TokenizerFacts,
    TokenizerService,
    TokenizerSource,
)


@dataclass(frozen=True)
class Tokenizer:
    """Special tokens are found in any text but in guard when encoding (the template writes them),
    and are left out when decoding."""

    source: TokenizerSource
    service: TokenizerService
    facts: TokenizerFacts

    @classmethod
    async def load(cls, source: TokenizerSource, service: TokenizerService) -> "Tokenizer":
        """Raises TokenizerFailed, NotServed."""
        return cls(source, service, await service.load(source))

    @property
    def special_texts(self) -> tuple[str, ...]:
        return self.facts.special_texts

    @property
    def bound(self) -> PromptBound | None:
        """None where nobody can tell from a text's size that it is too long."""
        return self.facts.bound

    async def encode(self, text: str, guard: ControlTokenGuard | None, tenant: str) -> "array[int]":
        """Raises TokenizerFailed, NotServed."""
        is_vetted = self.facts.is_vetted
        return await self.service.encode(
            self.source, text, guard, tenant=tenant, is_vetted=is_vetted
        )

    def decode(self, ids: Sequence[int]) -> str:
        return self.facts.vocabulary.decode(ids)

    def token_bytes(self, token_id: int) -> bytes:
        """One token alone, special ones too; perhaps a part of a character."""
        return self.facts.vocabulary.token_bytes(token_id)
