"""What submissions that share a transaction read once: their models, and how many wait."""

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.policy.cluster import Model
from services.scheduler.store import models, queue
from services.scheduler.store.queue import NumQueued, QueueCounts


@dataclass
class QueueReadings:
    """As of the transaction, and of what those before in it have done."""

    session: AsyncSession
    _models: dict[str, Model | None] = field(default_factory=dict)
    _counts: QueueCounts | None = None

    async def model(self, model_id: str, now_s: float) -> Model | None:
        if model_id not in self._models:
            self._models[model_id] = await models.find(self.session, model_id, now_s)
        return self._models[model_id]

    async def num_queued(self, model_id: str, tenant: str) -> NumQueued:
        if self._counts is None:
            self._counts = await queue.load_counts(self.session)
        return self._counts.num_queued(model_id, tenant)

    def queued(self, model: Model) -> None:
        """One request of the model more."""
        if self._counts is not None:
            self._counts.add(model.id, model.tenant)

    def changed(self) -> None:
        """Somebody may have left a queue, or come back to it."""
        self._counts = None
