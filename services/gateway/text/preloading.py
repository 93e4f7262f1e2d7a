"""Loads the tokenizers of models that nobody has asked for yet: no first request waits for them."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from libs.common.messages import ModelSummary
from services.gateway.errors import ApiError, TokenizerFailed
from services.gateway.text.models import TextModels, files_of

logger = logging.getLogger(__name__)

PERIOD_S = 0.5


class Preloading:
    """Of at most `max_models`, so that none in use gives way. Each is tried once: whoever asks for
    a model whose tokenizer could not be loaded tries again."""

    def __init__(
        self, ready: Callable[[], Iterable[ModelSummary]], texts: TextModels, max_models: int
    ) -> None:
        self._ready, self._texts, self._max_models = ready, texts, max_models
        self._tried: set[object] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.load_new()
            await asyncio.sleep(PERIOD_S)

    async def load_new(self) -> None:
        """One after the other: requests need the same threads."""
        for summary in self._ready():
            files = files_of(summary)
            if files in self._tried or len(self._tried) >= self._max_models:
                continue
            self._tried.add(files)
            try:
                await self._texts.get(summary)
            except (ApiError, TokenizerFailed) as exc:
                logger.warning("a tokenizer was not loaded ahead of requests: %s", exc)
