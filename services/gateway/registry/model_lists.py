"""Lists of a tenant's models, in pages read from Postgres: an answer has a bounded size."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from libs.common.errors import DatabaseUnavailable
from libs.common.reasons import Reason
from services.gateway.errors import NotServed
from services.gateway.registry.model_registry import ModelRegistry
from services.gateway.store.model_entry import ListedModel, ModelEntry

_WAIT_S = 1.0  # for Postgres, where memory knows the answer
_Item = TypeVar("_Item")


class ListReader(Protocol):
    """By name, from the first one that comes after `after`. Every method raises
    DatabaseUnavailable."""

    async def page(self, tenant: str, after: str, limit: int) -> Sequence[ModelEntry]: ...

    async def askable_page(self, tenant: str, after: str, limit: int) -> Sequence[ListedModel]: ...


@dataclass(frozen=True)
class Page(Generic[_Item]):
    items: Sequence[_Item]
    has_more: bool  # after the last one


@dataclass(frozen=True)
class ModelLists:
    """While Postgres is away, memory answers if it has all models; else NotServed is raised: what
    lacks models without saying so is no list."""

    reader: ListReader
    registry: ModelRegistry

    async def page(self, tenant: str, after: str, limit: int) -> Page[ModelEntry]:
        try:
            async with self._in_time():
                return _page(await self.reader.page(tenant, after, limit + 1), limit)
        except (DatabaseUnavailable, TimeoutError) as exc:
            return _page(self._known_after(tenant, after, exc), limit)

    async def askable_page(self, tenant: str, after: str, limit: int) -> Page[ListedModel]:
        """Of those that can be asked."""
        try:
            async with self._in_time():
                return _page(await self.reader.askable_page(tenant, after, limit + 1), limit)
        except (DatabaseUnavailable, TimeoutError) as exc:
            known = self._known_after(tenant, after, exc)
            listed = [ListedModel(e.name, e.created_at) for e in known if e.can_be_asked]
            return _page(listed, limit)

    def _in_time(self) -> asyncio.Timeout:
        return asyncio.timeout(_WAIT_S if self.registry.knows_all else None)

    def _known_after(self, tenant: str, after: str, exc: Exception) -> Sequence[ModelEntry]:
        """Raises NotServed where there may be others."""
        if not self.registry.knows_all:
            message = "models cannot be listed now"
            raise NotServed(message, Reason.DATABASE_UNAVAILABLE) from exc
        return [entry for entry in self.registry.known_of(tenant) if entry.name > after]


def _page(found: Collection[_Item], limit: int) -> Page[_Item]:
    return Page(list(found)[:limit], has_more=len(found) > limit)
