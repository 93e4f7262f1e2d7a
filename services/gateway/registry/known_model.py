"""A model in a gateway's memory."""

import sys
from dataclasses import dataclass

from services.gateway.store.model_entry import ModelEntry

ENTRY_BYTES = 5 * 2**10  # of memory, with what caches need to keep it; without long texts


@dataclass(frozen=True, slots=True)
class KnownModel:
    entry: ModelEntry
    read_at_s: float  # monotonic

    @property
    def size_bytes(self) -> int:
        texts = (self.entry.chat_template, self.entry.cause)
        return ENTRY_BYTES + sum(sys.getsizeof(text) for text in texts if text is not None)
