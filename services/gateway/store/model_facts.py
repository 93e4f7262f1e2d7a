"""What gateways need of manifests, read without the units, of which a model has dozens."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from pydantic import ValidationError
from sqlalchemy import String, any_, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelFacts
from libs.common.records.tables import ManifestRow
from services.gateway.store.arrays import texts

logger = logging.getLogger(__name__)

_FACTS = ManifestRow.summary.op("-")(literal("units", String)).label("facts")


@dataclass(frozen=True)
class FactsReader:
    """Manifests never change: the facts of one are read once and shared by all entries that have
    it, for as long as somebody keeps one of them."""

    _known: WeakValueDictionary[str, ModelFacts] = field(default_factory=WeakValueDictionary)

    async def read(self, session: AsyncSession, digests: Collection[str]) -> dict[str, ModelFacts]:
        """By digest. A summary that this version cannot read costs its own models alone."""
        found = {d: facts for d in digests if (facts := self._known.get(d)) is not None}
        missing = [digest for digest in digests if digest not in found]
        if not missing:
            return found
        query = select(ManifestRow.digest, _FACTS).where(ManifestRow.digest == any_(texts(missing)))
        for row in await session.execute(query):
            try:
                found[row.digest] = self._known[row.digest] = ModelFacts.model_validate(row.facts)
            except ValidationError as exc:
                logger.error("the summary of manifest %s cannot be read: %s", row.digest, exc)
        return found
