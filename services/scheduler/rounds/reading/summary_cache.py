"""Summaries of manifests, read once each: none ever changes."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelSummary
from services.scheduler.policy.cluster import Deployable, Model
from services.scheduler.store import models

MAX_KEPT = 4096  # the one used longest ago goes


@dataclass
class SummaryCache:
    max_stages: int | None = None  # of any model, whatever it allows itself
    _kept: OrderedDict[str, ModelSummary] = field(default_factory=OrderedDict)

    async def deployable(self, session: AsyncSession, model: Model) -> Deployable:
        digest = model.manifest_digest
        assert digest is not None, "a READY model has a manifest"
        summary = (await self.of(session, [digest]))[digest]
        if self.max_stages is not None:
            num_stages = min(model.max_pipeline_size, self.max_stages)
            model = replace(model, max_pipeline_size=num_stages)
        return Deployable(model, summary=summary, manifest_digest=digest)

    async def of(self, session: AsyncSession, digests: Collection[str]) -> dict[str, ModelSummary]:
        """By digest; one that no row has is missing."""
        found = {digest: self._kept[digest] for digest in digests if digest in self._kept}
        found |= await models.load_summaries(session, set(digests) - found.keys())
        for digest, summary in found.items():
            self._kept[digest] = summary
            self._kept.move_to_end(digest)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return found
