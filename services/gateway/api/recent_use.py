"""What one model cost lately, and what was prefetched for it, for its view, which is there without
Postgres, too."""

import asyncio

from libs.common.errors import DatabaseUnavailable
from services.gateway.api.schemas import ModelUse
from services.gateway.store.history import ViewStore
from services.gateway.store.model_entry import ModelEntry
from services.gateway.store.usage import UsageStore
from services.gateway.store.views import PrefetchView

_HOURS = (1, 24)
_TIMEOUT_S = 2.0  # whoever looks at a model shall not wait for it


async def recent_use(store: UsageStore, entry: ModelEntry) -> ModelUse | None:
    """None while Postgres does not answer."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            hour, day = await store.of_model(entry.tenant, entry.model_id, _HOURS)
    except (DatabaseUnavailable, TimeoutError):
        return None
    return ModelUse(last_hour=hour, last_day=day)


async def recent_prefetches(store: ViewStore, entry: ModelEntry) -> list[PrefetchView] | None:
    """None while Postgres does not answer."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return list(await store.prefetches(entry.tenant, entry.model_id))
    except (DatabaseUnavailable, TimeoutError):
        return None
