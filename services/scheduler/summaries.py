"""Manifest summaries, read once: a manifest never changes."""

from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.messages import ModelSummary
from services.scheduler.cluster import Deployable, Holding, Model
from services.scheduler.memory import file_bytes
from services.scheduler.store import models, nodes

MAX_KEPT = 4096


@dataclass
class Summaries:
    _kept: dict[str, ModelSummary] = field(default_factory=dict)

    async def deployable(self, session: AsyncSession, model: Model) -> Deployable:
        assert model.manifest_digest is not None, "a READY model has a manifest"
        summary = await self.of(session, model.manifest_digest)
        return Deployable(model, model.manifest_digest, summary)

    async def of(self, session: AsyncSession, manifest_digest: str) -> ModelSummary:
        summary = self._kept.get(manifest_digest)
        if summary is None:
            summary = await models.load_summary(session, manifest_digest)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[manifest_digest] = summary
        return summary

    async def holdings(self, session: AsyncSession) -> dict[str, tuple[Holding, ...]]:
        """Of every node: what its workers keep in its host cache."""
        found: defaultdict[str, list[Holding]] = defaultdict(list)
        for held in await nodes.load_holdings(session):
            summary = await self.of(session, held.manifest_digest)
            sizes = {unit.digest: file_bytes(unit) for unit in summary.units}
            files = {digest: sizes[digest] for digest in held.unit_digests}
            found[held.node_id].append(Holding(held.worker_id, files))
        return {node_id: tuple(holdings) for node_id, holdings in found.items()}
