"""What the planner is given of a model. Manifest summaries are read once: none ever changes."""

from collections import defaultdict
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ModelSummary
from services.scheduler.policy.cluster import Deployable, Holding, Model
from services.scheduler.policy.planning.memory import file_bytes
from services.scheduler.store import models, nodes

MAX_KEPT = 4096


@dataclass
class Summaries:
    max_stages: int | None = None  # of any model, whatever it allows itself
    _kept: dict[str, ModelSummary] = field(default_factory=dict)

    async def deployable(self, session: AsyncSession, model: Model) -> Deployable:
        manifest_digest = model.manifest_digest
        assert manifest_digest is not None, "a READY model has a manifest"
        summary = await self.of(session, manifest_digest)
        if self.max_stages is not None:
            num_stages = min(model.max_pipeline_size, self.max_stages)
            model = replace(model, max_pipeline_size=num_stages)
        return Deployable(model, summary=summary, manifest_digest=manifest_digest)

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
