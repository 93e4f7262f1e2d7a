"""What the gateway reads from and writes to Postgres, in memory, and at will out of reach."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from libs.common.errors import DatabaseUnavailable, RowsRefused
from services.gateway.auth import hash_key
from services.gateway.store.keys import KeyInfo
from services.gateway.store.models import ModelEntry
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
    entries: list[ModelEntry]
    is_down: bool = False
    num_reads: int = 0

    async def read_all(self) -> tuple[ModelEntry, ...]:
        self.num_reads += 1
        if self.is_down:
            raise DatabaseUnavailable("down")
        return tuple(self.entries)


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
