"""Loads the tokenizers of models ahead of their first requests."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from libs.common.bus.messages import ModelFacts
from services.gateway.errors import GatewayError
from services.gateway.text.text_models import Files, TextModelCache, files_of, size_bytes_of

logger = logging.getLogger(__name__)

PERIOD_S = 0.5


class TokenizerPreloader:
    """Of at most `max_bytes` of files, so that none in use gives way. Each is tried once: whoever
    asks for a model whose tokenizer was not loaded tries again. `ready` names some hundred models
    at most, those asked for last first: the catalogue may be larger than any memory."""

    def __init__(
        self, ready: Callable[[], Iterable[ModelFacts]], texts: TextModelCache, max_bytes: int
    ) -> None:
        self._ready, self._texts, self._max_bytes = ready, texts, max_bytes
        self._tried: dict[Files, int] = {}  # and the bytes of its files

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.load_new()
            await asyncio.sleep(PERIOD_S)

    async def load_new(self) -> None:
        """One after the other: requests need the same threads. Models that are gone make room."""
        ready = {files_of(summary): summary for summary in self._ready()}
        self._tried = {files: size for files, size in self._tried.items() if files in ready}
        num_bytes = sum(self._tried.values())
        for files, summary in ready.items():
            size = size_bytes_of(summary)
            if files in self._tried or num_bytes + size > self._max_bytes:
                continue
            self._tried[files] = size
            num_bytes += size
            try:
                await self._texts.get(summary)
            except GatewayError as exc:
                logger.warning("a tokenizer was not loaded ahead of requests: %s", exc)
            except Exception:  # a model's files must not end a gateway that nobody asked for them
                logger.exception("a tokenizer was not loaded ahead of requests")
