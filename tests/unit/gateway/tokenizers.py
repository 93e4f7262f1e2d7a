"""The child's own code, run in this process."""

from array import array

from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.tokenizer_child import TokenizerServer
from services.gateway.text.tokenizer_pool import (
    Reply,
    TokenizerFacts,
    TokenizerSource,
    encode_request,
    facts_of,
    ids_of,
    load_request,
)


class InProcessTokenizers:
    """Saves a test the start of a process."""

    def __init__(self) -> None:
        self._server = TokenizerServer(2**30, vetted_only=False)

    async def load(self, source: TokenizerSource) -> TokenizerFacts:
        reply = Reply.parse(self._server.answer(load_request(source)))
        return facts_of(reply, is_vetted=True)

    async def encode(
        self,
        source: TokenizerSource,
        text: str,
        guard: ControlTokenGuard | None,
        *,
        tenant: str,
        is_vetted: bool,
    ) -> "array[int]":
        return ids_of(Reply.parse(self._server.answer(encode_request(source.key, text, guard))))
