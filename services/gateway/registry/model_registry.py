"""The models that a gateway knows: those that were asked for last, kept as they are in Postgres.

A warm request must not wait for Postgres, so answers come from memory and survive its absence. What
is not in memory is read when somebody asks for it; what is there is read again when it changes. So
no work and no memory grows with the number of models that exist.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from itertools import islice
from typing import Protocol

from libs.common.bus.bus import Bus
from libs.common.bus.messages import ModelFacts, ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED
from libs.common.clock import Clock
from libs.common.errors import DatabaseUnavailable
from libs.common.reasons import Reason
from libs.common.states import ModelState
from services.gateway.errors import NotServed
from services.gateway.registry.change_follower import ChangeFollower, ChangeReader
from services.gateway.registry.fair_cache import FairCache
from services.gateway.registry.known_model import KnownModel
from services.gateway.registry.model_lookup import ModelFinder, ModelLookup
from services.gateway.store.model_entry import MODEL_NAME_PATTERN, ModelEntry, ModelKey

logger = logging.getLogger(__name__)

REFRESH_S = 3.0
_PAUSE_S = 0.1  # between two reads of what changed, however often somebody says that it did
_MISS_PAUSE_S = 0.5  # a name that is not known is looked for again, at most so often
MISS_WAIT_S = 1.0
_MAX_ABSENT = 10_000  # names of which it is remembered when they were looked for
_MAX_RECENT = 256
_LOAD_NAMES = 512  # of one step of loading at the start
_MAX_WITH_ENDPOINTS = 10_000
_NAME = re.compile(MODEL_NAME_PATTERN)


class ModelReader(ModelFinder, ChangeReader, Protocol):
    async def with_endpoints(self, limit: int) -> Collection[ModelKey]:
        """Of models that have living endpoints, the newest first. Raises DatabaseUnavailable."""


class ModelRegistry:
    """Models by tenant and name; `run` follows their changes, a miss reads one.

    As long as all of them have room it knows all, also those that nobody has asked for.
    """

    def __init__(
        self,
        reader: ModelReader,
        clock: Clock,
        max_bytes: int,
        miss_wait_s: float = MISS_WAIT_S,
    ) -> None:
        """`miss_wait_s`: how long a request waits for Postgres to find its model."""
        self._reader, self._miss_wait_s = reader, miss_wait_s
        self._clock = clock
        self._known: FairCache[KnownModel] = FairCache(max_bytes, lambda known: known.size_bytes)
        self._absent_at_s: FairCache[float] = FairCache(_MAX_ABSENT)
        self._lookup = ModelLookup(reader, self._keep)
        self._changes = ChangeFollower(reader, clock)
        self._has_changed = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._is_load_due = False
        self._has_read_all = False

    @property
    def is_loaded(self) -> bool:
        return self._changes.has_begun

    @property
    def knows_all(self) -> bool:
        """No model exists that it does not know, but for what changed just now."""
        return self._has_read_all and not self._known.has_dropped

    def known_of(self, tenant: str) -> list[ModelEntry]:
        """Those in memory, by name."""
        entries = (known.entry for known in self._known.of_tenant(tenant))
        return sorted(entries, key=lambda entry: entry.name)

    def recent_facts(self) -> list[ModelFacts]:
        """Of models that can be asked, among those that were asked for last."""
        recent = (known.entry for known in islice(self._known.latest(), _MAX_RECENT))
        return [e.summary for e in recent if e.summary is not None and e.can_be_asked]

    async def find(self, tenant: str, name: str) -> ModelEntry:
        """The tenant's model of that name. Raises NotServed if there is none, or nobody knows."""
        key = ModelKey(tenant, name)
        known = self._known.use(key)
        if known is None:
            return await self._find_unknown(key)
        if known.entry.state is ModelState.IMPORTING and not known.entry.can_be_asked:
            return await self._find_importing(known, max_age_s=_MISS_PAUSE_S)
        return known.entry

    async def latest(self, tenant: str, name: str) -> ModelEntry:
        """As `find`, and of a model that is being imported as Postgres has it now: whoever asks
        several gateways in turn sees its progress grow."""
        known = self._known.use(ModelKey(tenant, name))
        if known is not None and known.entry.state is ModelState.IMPORTING:
            return await self._find_importing(known, max_age_s=0.0)
        return await self.find(tenant, name)

    async def read_again(self, tenant: str, name: str) -> None:
        """It was written here just now."""
        key = ModelKey(tenant, name)
        with suppress(DatabaseUnavailable):  # then the change is read with the others, later
            await self._in_time(lambda: self._lookup.read(key), pause_s=0.0)

    async def run(self, bus: Bus) -> None:
        """Keeps the entries fresh until cancelled."""
        subscription = await bus.subscribe(MODELS_CHANGED, None, self._on_changed)
        try:
            while True:
                began_s = self._clock.monotonic_s()
                await self.refresh()
                await self._wait()
                await asyncio.sleep(max(0.0, began_s + _PAUSE_S - self._clock.monotonic_s()))
        finally:
            await subscription.unsubscribe()

    async def refresh(self) -> bool:
        """Read what changed; False, and what was known stays, while Postgres does not answer."""
        async with self._refreshing:
            self._has_changed.clear()
            try:
                self._is_load_due |= not await self._changes.read(self._take_changes)
                if self._is_load_due:
                    await self._load()
                    self._is_load_due = False
            except DatabaseUnavailable as exc:
                logger.warning("the models known stay as they are: %s", exc)
                return False
            return True

    async def _take_changes(self, keys: Collection[ModelKey]) -> None:
        """One that is not known is only read while there is room for all."""
        for key in keys:
            self._absent_at_s.remove(key)
        await self._lookup.read_again([key for key in keys if self._is_followed(key)])

    def _is_followed(self, key: ModelKey) -> bool:
        return not self._known.has_dropped or key in self._known or self._lookup.is_reading(key)

    async def _load(self) -> None:
        """At the start, or where changes may have been missed: what is known again, those that
        serve now, then the most lately changed ones, while there is room."""
        await self._read_in_steps(self._known.keys())
        await self._read_in_steps(await self._reader.with_endpoints(_MAX_WITH_ENDPOINTS))
        oldest = None
        while not self._known.has_dropped:
            changed = await self._reader.changed_last(oldest, _LOAD_NAMES)
            await self._lookup.read_again({change.key for change in changed})
            if len(changed) < _LOAD_NAMES:
                self._has_read_all = True
                return
            oldest = changed[-1]

    async def _read_in_steps(self, keys: Collection[ModelKey]) -> None:
        remaining = iter(keys)
        while step := list(islice(remaining, _LOAD_NAMES)):
            await self._lookup.read_again(step)

    async def _on_changed(self, _message: ModelsChanged) -> None:
        self._has_changed.set()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await self._has_changed.wait()

    async def _find_unknown(self, key: ModelKey) -> ModelEntry:
        """Another gateway may have registered it just now: only a read that begins after the
        question can tell. However many ask, there is one each `_MISS_PAUSE_S`."""
        if not _NAME.fullmatch(key.name):
            raise _not_found(key)
        looked_at_s = self._absent_at_s.get(key)
        pause_s = 0.0 if looked_at_s is None else self._pause_s(looked_at_s)
        try:
            entry = await self._in_time(lambda: self._lookup.read(key), pause_s)
        except DatabaseUnavailable as exc:
            raise _unavailable() from exc
        if entry is None:
            raise _not_found(key)
        return entry

    async def _find_importing(self, known: KnownModel, max_age_s: float) -> ModelEntry:
        """Its progress is told in no change. While Postgres is away it is told as it was known."""
        if 0 < self._clock.monotonic_s() - known.read_at_s < max_age_s:
            return known.entry
        key = known.entry.key
        try:
            entry = await self._in_time(
                lambda: self._lookup.read(key), self._pause_s(known.read_at_s)
            )
        except DatabaseUnavailable:
            return known.entry
        if entry is None:
            raise _not_found(key)
        return entry

    async def _in_time(
        self, read: Callable[[], Awaitable[ModelEntry | None]], pause_s: float
    ) -> ModelEntry | None:
        """Raises DatabaseUnavailable, also where Postgres is too slow."""
        try:
            async with asyncio.timeout(self._miss_wait_s):
                await asyncio.sleep(pause_s)
                return await read()
        except TimeoutError as exc:
            logger.warning("Postgres is too slow to look for a model")
            raise DatabaseUnavailable("no answer in time") from exc

    def _keep(self, key: ModelKey, entry: ModelEntry | None, is_asked: bool) -> None:
        now_s = self._clock.monotonic_s()
        if entry is None:
            self._known.remove(key)
            self._absent_at_s.put(key, now_s)
            return
        self._absent_at_s.remove(key)
        known = KnownModel(entry, now_s)
        if is_asked:
            self._known.put(key, known)
        else:
            self._known.refresh(key, known)

    def _pause_s(self, read_at_s: float) -> float:
        return max(0.0, read_at_s + _MISS_PAUSE_S - self._clock.monotonic_s())


def _unavailable() -> NotServed:
    message = "models cannot be looked up now"
    return NotServed(message, Reason.DATABASE_UNAVAILABLE)


def _not_found(key: ModelKey) -> NotServed:
    message = f"the model {key.name!r} does not exist"
    return NotServed(message, Reason.MODEL_NOT_FOUND, param="model")
