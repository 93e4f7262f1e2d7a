"""Whether a new request may wait for its model, or why not."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import SubmitRefused
from libs.common.clock import Clock
from libs.common.reasons import Reason
from libs.common.states import ModelState
from libs.common.tenant_shares import TenantShares
from services.scheduler.intake.feasibility_cache import Feasibility, FeasibilityCache
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.queue_speed import QueueSpeed
from services.scheduler.observation.queued_requests import NumQueued
from services.scheduler.policy import refusals
from services.scheduler.policy.cluster import Deployable, Model
from services.scheduler.policy.planning.plans import NoRoom
from services.scheduler.policy.refusals import Refusal
from services.scheduler.rounds.reading.summary_cache import SummaryCache
from services.scheduler.store import endpoints


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
    queue_speed: QueueSpeed
    clock: Clock
    queue_limits: QueueLimits
    retry_after_s: int  # where nobody can predict it
    acquaintance_s: float

    async def refusal(
        self, session: AsyncSession, model: Model | None, num_queued: NumQueued, remaining_s: float
    ) -> SubmitRefused | None:
        """None: the request may be queued behind others until its deadline."""
        refusal = await self.state_refusal(session, model)
        if refusal is not None:
            return submit_refused(refusal)
        assert model is not None, "an unknown model is refused"
        full = self._full(model, num_queued)
        if full is not None:
            return full
        refusal = await self._backing_off(session, model)
        if refusal is not None:
            return submit_refused(refusal)
        return await self._out_of_reach(session, model, remaining_s)

    def _full(self, model: Model, num_queued: NumQueued) -> SubmitRefused | None:
        """The model's queue, all queues together, or what the tenant may have in them."""
        if num_queued.of_model >= model.max_queue:
            message = (
                f"{num_queued.of_model} requests wait for model {model.name} already, "
                f"its max_queue is {model.max_queue}"
            )
            wait_s = self.queue_speed.predicted_wait_s(
                model.id, num_queued.of_model, self.clock.monotonic_s()
            )
            return self._come_again(Reason.QUEUE_FULL, message, wait_s=wait_s)
        if num_queued.of_all >= self.queue_limits.max_queued:
            message = f"{num_queued.of_all} requests wait for all models together, the most"
            return self._come_again(Reason.QUEUE_FULL, message)
        limit = self.queue_limits.of_tenant(model.tenant, num_queued)
        if num_queued.of_tenant >= limit:
            message = (
                f"{num_queued.of_tenant} requests of your tenant wait already, at most {limit} may"
            )
            return self._come_again(Reason.TENANT_LIMIT, message, limit=limit)
        return None

    def _come_again(
        self, code: Reason, message: str, *, wait_s: int | None = None, limit: int | None = None
    ) -> SubmitRefused:
        retry_after_s = wait_s or self.retry_after_s
        return SubmitRefused(code=code, message=message, retry_after_s=retry_after_s, limit=limit)

    async def prepare(self, session: AsyncSession, models: Collection[Model]) -> None:
        """For answers about all of these: what they need is read together."""
        digests = {model.manifest_digest for model in models if model.state is ModelState.READY}
        if digests - {None}:
            await self.summaries.of(session, [digest for digest in digests if digest is not None])

    async def state_refusal(self, session: AsyncSession, model: Model | None) -> Refusal | None:
        """Of a model that is gone or not imported, unless something serves meanwhile."""
        is_living = False
        if model is not None and model.is_imported_again:
            is_living = await endpoints.has_serving(session, model.id)
        return refusals.of_state(model, is_living=is_living)

    async def why_failed(self, session: AsyncSession, model: Model | None) -> Refusal | None:
        """What is wrong with the model now, whoever asks for it."""
        refusal = await self.state_refusal(session, model)
        if refusal is not None or model is None or model.state is not ModelState.READY:
            return refusal
        refusal = await self._backing_off(session, model)
        if refusal is not None or not self.log.knows_all_nodes(self.acquaintance_s):
            return refusal
        deployable = await self.summaries.deployable(session, model)
        shortage = (await self.feasibility.of(session, deployable)).shortage
        return None if shortage is None else refusals.of_shortage(shortage)

    async def _backing_off(self, session: AsyncSession, model: Model) -> Refusal | None:
        now_s = self.clock.monotonic_s()
        if not model.backs_off(now_s) or await endpoints.has_serving(session, model.id):
            return None
        cause = await endpoints.last_failure(session, model.id)
        return refusals.of_backoff(model, cause, now_s)

    async def _out_of_reach(
        self, session: AsyncSession, model: Model, remaining_s: float
    ) -> SubmitRefused | None:
        """Of a model that nothing lives of; a leader that has just begun knows only a part of the
        cluster, and lets the request wait."""
        if not self.log.knows_all_nodes(self.acquaintance_s):
            return None
        if await self._has_open(session, model.id):
            return None
        deployable = await self.summaries.deployable(session, model)
        feasibility = await self.feasibility.of(session, deployable, enough_s=remaining_s)
        if feasibility.shortage is not None:
            return submit_refused(refusals.of_shortage(feasibility.shortage))
        return self._too_late(feasibility, deployable, remaining_s)

    async def _has_open(self, session: AsyncSession, model_id: str) -> bool:
        """An endpoint that serves or starts: this leader alone makes them."""
        snapshot = self.feasibility.latest()
        if snapshot is None:
            return await endpoints.has_open(session, model_id)
        return any(e.state.can_take_requests for e in snapshot.endpoints.by("model", model_id))

    def _too_late(
        self, feasibility: Feasibility, deployable: Deployable, remaining_s: float
    ) -> SubmitRefused | None:
        """Its bytes alone would need longer, were all nodes idle."""
        best = feasibility.best
        if isinstance(best, NoRoom) or best.fetch_s <= remaining_s:
            return None
        model, num_stages = deployable.model, len(best.stages)
        return SubmitRefused(
            code=Reason.DEADLINE_TOO_SHORT,
            message=f"model {model.name} needs at least {best.fetch_s:.1f} s to start, on "
            f"{num_stages} node{'s' if num_stages > 1 else ''} (its max_pipeline_size is "
            f"{model.max_pipeline_size}), and the request's deadline is in {remaining_s:.1f} s",
            needed_s=best.fetch_s,
        )


def submit_refused(refusal: Refusal) -> SubmitRefused:
    return SubmitRefused(
        code=refusal.reason, message=refusal.message, retry_after_s=refusal.retry_after_s
    )
