"""Manifest summaries, read once: a manifest never changes."""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.messages import ModelSummary
from services.scheduler.cluster import Deployable, Model
from services.scheduler.store import models

MAX_KEPT = 4096


@dataclass
class Summaries:
    _kept: dict[str, ModelSummary] = field(default_factory=dict)

    async def deployable(self, session: AsyncSession, model: Model) -> Deployable:
        assert model.manifest_digest is not None, "a READY model has a manifest"
        summary = self._kept.get(model.manifest_digest)
        if summary is None:
            summary = await models.load_summary(session, model.manifest_digest)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[model.manifest_digest] = summary
        return Deployable(model, model.manifest_digest, summary)
