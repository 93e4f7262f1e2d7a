"""What the gateway reads from and writes to Postgres, in memory, and at will out of reach."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from libs.common.errors import DatabaseUnavailable, RowsRefused
from services.gateway.auth import hash_key
from services.gateway.store.keys import KeyInfo
from services.gateway.store.model_entry import ListedModel, ModelEntry, ModelKey
from services.gateway.store.model_queries import ChangedModel, Horizon
from services.gateway.store.requests import BegunRow, EndedRow
from tests.unit.gateway.tiny import NOW, TENANT

KEY = "hs-test-key"


@dataclass
class FakeKeys:
    """Knows one key of one tenant."""

    is_down: bool = False
    num_lookups: int = 0
    asked: list[str] = field(default_factory=list)
    is_answering: asyncio.Event = field(default_factory=asyncio.Event)
    known: dict[str, KeyInfo] = field(
        default_factory=lambda: {hash_key(KEY): KeyInfo("key-1", TENANT, "test", NOW)}
    )

    def __post_init__(self) -> None:
        self.is_answering.set()

    async def find_all(self, keys_sha256: Collection[str]) -> dict[str, KeyInfo]:
        self.num_lookups += 1
        self.asked += keys_sha256
        await self.is_answering.wait()
        if self.is_down:
            raise DatabaseUnavailable("down")
        return {key: self.known[key] for key in keys_sha256 if key in self.known}


@dataclass
class FakeModels:
    """Models as rows; each change that a test makes in `entries` is told as one of its own."""

    entries: list[ModelEntry]
    is_down: bool = False
    num_reads: int = 0  # of entries and lists
    asked: list[ModelKey] = field(default_factory=list)
    server_started_at: datetime = NOW
    _told: dict[str, ChangedModel] = field(default_factory=dict)
    _seen: dict[str, ModelEntry] = field(default_factory=dict)

    async def find_all(self, keys: Collection[ModelKey]) -> dict[ModelKey, ModelEntry]:
        self.num_reads += 1
        self.asked += keys
        self._answer()
        return {entry.key: entry for entry in self.entries if entry.key in set(keys)}

    async def read_horizon(self) -> Horizon:
        self._answer()
        next_xid = self._note_changes() + 1
        return Horizon(next_xid, next_xid, self.server_started_at)

    async def changed(
        self, since_xid: int, until_xid: int, after: ChangedModel | None, limit: int
    ) -> tuple[ChangedModel, ...]:
        self._answer()
        found = [c for c in self._told.values() if since_xid <= c.xid < until_xid]
        begin = 0 if after is None else after.xid
        ordered = sorted(found, key=lambda change: change.xid)
        return tuple(change for change in ordered if change.xid > begin)[:limit]

    async def changed_last(
        self, before: ChangedModel | None, limit: int
    ) -> tuple[ChangedModel, ...]:
        self._answer()
        self._note_changes()
        end = float("inf") if before is None else before.xid
        ordered = sorted(self._told.values(), key=lambda change: -change.xid)
        return tuple(change for change in ordered if change.xid < end)[:limit]

    async def with_endpoints(self, limit: int) -> tuple[ModelKey, ...]:
        self._answer()
        return ()

    async def page(self, tenant: str, after: str, limit: int) -> tuple[ModelEntry, ...]:
        self.num_reads += 1
        self._answer()
        found = (e for e in self.entries if e.tenant == tenant and e.name > after)
        return tuple(sorted(found, key=lambda entry: entry.name))[:limit]

    async def askable_page(self, tenant: str, after: str, limit: int) -> tuple[ListedModel, ...]:
        found = await self.page(tenant, after, len(self.entries))
        listed = [ListedModel(e.name, e.created_at) for e in found if e.can_be_asked]
        return tuple(listed[:limit])

    def _answer(self) -> None:
        if self.is_down:
            raise DatabaseUnavailable("down")

    def _note_changes(self) -> int:
        """The highest transaction there is."""
        now = {entry.model_id: entry for entry in self.entries}
        for model_id in self._seen.keys() | now.keys():
            if self._seen.get(model_id) != now.get(model_id):
                entry = now.get(model_id) or self._seen[model_id]
                xid = 1 + max((change.xid for change in self._told.values()), default=0)
                self._told[model_id] = ChangedModel(xid, model_id, entry.key)
        self._seen = now
        return max((change.xid for change in self._told.values()), default=0)


@dataclass
class FakeWriter:
    begun: list[BegunRow] = field(default_factory=list)
    ended: list[EndedRow] = field(default_factory=list)
    is_down: bool = False
    refused: frozenset[str] = frozenset()  # ids of rows that cannot be stored
    num_writes: int = 0

    async def write(self, begun: tuple[BegunRow, ...], ended: tuple[EndedRow, ...]) -> None:
        if self.is_down:
            raise DatabaseUnavailable("down")
        self.num_writes += 1
        if any(row.id in self.refused for row in (*begun, *ended)):
            raise RowsRefused("a value out of range")
        self.begun += begun
        self.ended += ended


@dataclass(frozen=True)
class Stores:
    keys: FakeKeys
    models: FakeModels
    writer: FakeWriter
