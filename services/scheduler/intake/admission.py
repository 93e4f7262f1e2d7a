"""Whether a new request may wait for its model, or why not."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import SubmitRefused
from libs.common.clock import Clock
from libs.common.states import ModelState
from libs.common.tenant_shares import TenantShares
from services.scheduler.intake.feasibility_cache import Feasibility, FeasibilityCache
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.policy.cluster import Deployable, Model
from services.scheduler.policy.planning.plans import NoRoom
from services.scheduler.rounds.summary_cache import SummaryCache
from services.scheduler.store import endpoints
from services.scheduler.store.queue import NumQueued


@dataclass(frozen=True)
class QueueLimits:
    """How many requests may wait, in the queues of all models and all gateways together."""

    max_queued: int
    shares: TenantShares

    def of_tenant(self, tenant: str, num_queued: NumQueued) -> int:
        others = num_queued.of_all - num_queued.of_tenant
        return self.shares.limit(tenant, self.max_queued, others)


@dataclass(frozen=True)
class Admission:
    summaries: SummaryCache
    log: HeartbeatLog
    feasibility: FeasibilityCache
    clock: Clock
    queue_limits: QueueLimits
    retry_after_s: int
    acquaintance_s: float

    async def refusal(
        self, session: AsyncSession, model: Model | None, num_queued: NumQueued, remaining_s: float
    ) -> SubmitRefused | None:
        """None: the request may be queued behind others until its deadline."""
        if model is None or model.state is ModelState.DELETING:
            return SubmitRefused(code="model_failed", message="the model was deleted")
        if model.state is not ModelState.READY:
            return self._not_ready(model)
        return (
            self._full(model, num_queued)
            or await self._backing_off(session, model)
            or await self._out_of_reach(session, model, remaining_s)
        )

    def _full(self, model: Model, num_queued: NumQueued) -> SubmitRefused | None:
        """The model's queue, all queues together, or what the tenant may have in them."""
        if num_queued.of_model >= model.max_queue:
            message = (
                f"{num_queued.of_model} requests wait for model {model.name} already, "
                f"its max_queue is {model.max_queue}"
            )
            return self._come_again("queue_full", message)
        if num_queued.of_all >= self.queue_limits.max_queued:
            message = f"{num_queued.of_all} requests wait for all models together, the most"
            return self._come_again("queue_full", message)
        limit = self.queue_limits.of_tenant(model.tenant, num_queued)
        if num_queued.of_tenant >= limit:
            message = (
                f"{num_queued.of_tenant} requests of your tenant wait already, at most {limit} may"
            )
            return self._come_again("tenant_limit", message, limit)
        return None

    def _come_again(
        self, code: Literal["queue_full", "tenant_limit"], message: str, limit: int | None = None
    ) -> SubmitRefused:
        return SubmitRefused(
            code=code, message=message, retry_after_s=self.retry_after_s, limit=limit
        )

    def _not_ready(self, model: Model) -> SubmitRefused:
        if model.state is ModelState.FAILED:
            message = f"the import of model {model.name} failed: {model.cause}"
            return SubmitRefused(code="model_failed", message=message)
        message = f"model {model.name} is still being imported"
        return SubmitRefused(
            code="model_not_ready", message=message, retry_after_s=self.retry_after_s
        )

    async def _backing_off(self, session: AsyncSession, model: Model) -> SubmitRefused | None:
        until_s, now_s = model.backoff_until_s, self.clock.monotonic_s()
        remaining_s = 0.0 if until_s is None else until_s - now_s
        if remaining_s <= 0 or await endpoints.has_serving(session, model.id):
            return None
        cause = await endpoints.last_failure(session, model.id)
        return SubmitRefused(
            code="model_failed",
            message=f"model {model.name} failed to start {model.num_failed_starts} times, "
            f"the next try is in {ceil(remaining_s)} s; the last failure: {cause}",
            retry_after_s=ceil(remaining_s),
        )

    async def _out_of_reach(
        self, session: AsyncSession, model: Model, remaining_s: float
    ) -> SubmitRefused | None:
        """Of a model that nothing lives of; a leader that has just begun knows only a part of the
        cluster, and lets the request wait."""
        if not self.log.knows_all_nodes(self.acquaintance_s):
            return None
        if await endpoints.has_open(session, model.id):
            return None
        deployable = await self.summaries.deployable(session, model)
        feasibility = await self.feasibility.of(session, deployable)
        if feasibility.shortage is not None:
            return SubmitRefused(code="no_capacity", message=feasibility.shortage)
        return self._too_late(feasibility, deployable, remaining_s)

    def _too_late(
        self, feasibility: Feasibility, deployable: Deployable, remaining_s: float
    ) -> SubmitRefused | None:
        """Its bytes alone would need longer, were all nodes idle."""
        best = feasibility.best
        if isinstance(best, NoRoom) or best.fetch_s <= remaining_s:
            return None
        model, num_stages = deployable.model, len(best.stages)
        return SubmitRefused(
            code="deadline_too_short",
            message=f"model {model.name} needs at least {best.fetch_s:.1f} s to start, on "
            f"{num_stages} node{'s' if num_stages > 1 else ''} (its max_pipeline_size is "
            f"{model.max_pipeline_size}), and the request's deadline is in {remaining_s:.1f} s",
            needed_s=best.fetch_s,
        )
