"""The models that exist, as of a moment ago: read every few seconds, and when one changed.

A warm request must not wait for Postgres, so answers come from memory and survive its absence.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from libs.common.bus.bus import Bus
from libs.common.bus.messages import ModelsChanged, ModelSummary
from libs.common.bus.subjects import MODELS_CHANGED
from libs.common.clock import Clock
from libs.common.errors import DatabaseUnavailable
from libs.common.reasons import Reason
from libs.common.states import ModelState
from services.gateway.errors import NotServed
from services.gateway.store.models import ModelEntry

logger = logging.getLogger(__name__)

REFRESH_S = 3.0
_MISS_REFRESH_S = 0.5  # an unknown name makes us look again, at most so often
_MISS_WAIT_S = 1.0


class ModelReader(Protocol):
    async def read_all(self) -> tuple[ModelEntry, ...]:
        """Raises DatabaseUnavailable."""


class ModelRegistry:
    """Models by tenant and name; `run` keeps them fresh, a miss reads them again."""

    def __init__(self, reader: ModelReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._entries: dict[tuple[str, str], ModelEntry] = {}
        self._read_at_s: float | None = None
        self._num_begun = 0  # reads
        self._newest = 0  # which of them the entries are from
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()

    @property
    def is_loaded(self) -> bool:
        return self._read_at_s is not None

    def list_models(self, tenant: str) -> tuple[ModelEntry, ...]:
        """Raises NotServed before anything was read."""
        if not self.is_loaded:
            raise _unavailable()
        return tuple(entry for (owner, _), entry in self._entries.items() if owner == tenant)

    def ready_summaries(self) -> tuple[ModelSummary, ...]:
        """Of every model that can be asked."""
        entries = (entry for entry in self._entries.values() if entry.can_be_asked)
        return tuple(entry.summary for entry in entries if entry.summary is not None)

    async def find(self, tenant: str, name: str) -> ModelEntry:
        """The tenant's model of that name. Raises NotServed if there is none, or nobody knows."""
        is_sure = (tenant, name) in self._entries or await self._reread()
        entry = self._entries.get((tenant, name))
        if entry is None and not is_sure:
            raise _unavailable()
        if entry is None:
            message = f"the model {name!r} does not exist"
            raise NotServed(message, Reason.MODEL_NOT_FOUND, param="model")
        return entry

    async def latest(self, tenant: str, name: str) -> ModelEntry:
        """As `find`, and of a model that is being imported as Postgres has it now: whoever asks
        several gateways in turn sees its progress grow."""
        entry = await self.find(tenant, name)
        if entry.state is ModelState.IMPORTING and await self._reread():
            return await self.find(tenant, name)
        return entry

    async def list_latest(self, tenant: str) -> tuple[ModelEntry, ...]:
        """As `list_models`, as current as `latest`."""
        if any(entry.state is ModelState.IMPORTING for entry in self.list_models(tenant)):
            await self._reread()
        return self.list_models(tenant)

    async def run(self, bus: Bus) -> None:
        """Keeps the entries fresh until cancelled."""
        subscription = await bus.subscribe(MODELS_CHANGED, None, self._on_changed)
        try:
            while True:
                await self.refresh()
                await self._wait()
        finally:
            await subscription.unsubscribe()

    async def refresh(self) -> bool:
        """Read all models now; False, and what was known stays, while Postgres does not answer."""
        async with self._reading:
            return await self._read()

    async def _read(self) -> bool:
        self._changed.clear()
        self._num_begun = number = self._num_begun + 1
        try:
            entries = await self._reader.read_all()
        except DatabaseUnavailable as exc:
            logger.warning("the models known stay as they are: %s", exc)
            return False
        self._entries = {(entry.tenant, entry.name): entry for entry in entries}
        self._read_at_s, self._newest = self._clock.monotonic_s(), number
        return True

    async def _on_changed(self, _message: ModelsChanged) -> None:
        self._changed.set()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await self._changed.wait()

    async def _reread(self) -> bool:
        """Another gateway may have registered it just now: only a read that begins after the
        question can tell. However many ask, there is one each `_MISS_REFRESH_S`.
        """
        seen = self._num_begun
        try:
            async with asyncio.timeout(_MISS_WAIT_S):
                await asyncio.sleep(self._pause_s())
                async with self._reading:
                    return self._newest > seen or await self._read()
        except TimeoutError:
            logger.warning("Postgres is too slow to look for a model that is not known")
            return False

    def _pause_s(self) -> float:
        if self._read_at_s is None:
            return 0.0
        return max(0.0, self._read_at_s + _MISS_REFRESH_S - self._clock.monotonic_s())


def _unavailable() -> NotServed:
    message = "models cannot be looked up now"
    return NotServed(message, Reason.DATABASE_UNAVAILABLE)
