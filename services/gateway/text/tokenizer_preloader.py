"""Loads the tokenizers of models ahead of their first requests."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from libs.common.bus.messages import ModelSummary
from services.gateway.errors import GatewayError
from services.gateway.text.text_models import Files, TextModelCache, files_of

logger = logging.getLogger(__name__)

PERIOD_S = 0.5
MAX_BYTES = 64 * 2**20  # of files; in memory a tokenizer takes several times that


class TokenizerPreloader:
    """Of at most `max_models`, so that none in use gives way, and of at most MAX_BYTES of files.
    Each is tried once: whoever asks for a model whose tokenizer was not loaded tries again."""

    def __init__(
        self, ready: Callable[[], Iterable[ModelSummary]], texts: TextModelCache, max_models: int
    ) -> None:
        self._ready, self._texts, self._max_models = ready, texts, max_models
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
        for files, summary in ready.items():
            size = sum(size for _, size in summary.tokenizer_files.values())
            is_full = len(self._tried) >= self._max_models
            if files in self._tried or is_full or sum(self._tried.values()) + size > MAX_BYTES:
                continue
            self._tried[files] = size
            try:
                await self._texts.get(summary)
            except GatewayError as exc:
                logger.warning("a tokenizer was not loaded ahead of requests: %s", exc)
            except Exception:  # a model's files must not end a gateway that nobody asked for them
                logger.exception("a tokenizer was not loaded ahead of requests")
