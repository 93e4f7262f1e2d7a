"""Statements and messages of a batch of decisions, for one savepoint."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import CancelRequest, RequestAssigned, RequestRefused
from libs.common.bus.subjects import ENDPOINT_CANCEL, REQUEST_ASSIGNED, REQUEST_REFUSED
from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from libs.common.observability import telemetry
from libs.common.reasons import Reason
from libs.common.states import EndpointState, LossKind
from services.scheduler.observation.trace_contexts import TraceContexts
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.rounds.applied import Applied, RoundContext
from services.scheduler.rounds.damage import import_again_if_damaged
from services.scheduler.rounds.outgoing import Outgoing
from services.scheduler.rounds.start import StartTrigger, begin_start
from services.scheduler.store import (
    coldstarts,
    desired,
    devices,
    endpoints,
    models,
    queue,
    request_losses,
    requests,
)
from services.scheduler.store.coldstarts import ColdStartOrigin

logger = logging.getLogger(__name__)

D = TypeVar("D", bound=d.Decision)


def _of(kind: type[D], decisions: Iterable[d.Decision]) -> list[D]:
    return [decision for decision in decisions if isinstance(decision, kind)]


@dataclass
class Batch:
    """Carries out decisions of any kind together. Whatever it raises leaves nothing behind."""

    session: AsyncSession
    context: RoundContext
    traces: TraceContexts
    applied: Applied = field(default_factory=Applied)
    dropped: set[int] = field(default_factory=set)  # identities of decisions

    async def carry_out(self, decisions: Sequence[d.Decision]) -> Applied:
        await self.workers(decisions)
        await self.endpoints(decisions)
        await self.starts(_of(d.StartEndpoint, decisions))
        await self.assignments(_of(d.AssignRequest, decisions))
        await self.losses(_of(d.CountLoss, decisions))
        await self.ends(_of(d.EndRequest, decisions))
        self.applied.decisions = [x for x in decisions if id(x) not in self.dropped]
        return self.applied

    # ------------------------------------------------------------------- workers

    async def workers(self, decisions: Sequence[d.Decision]) -> None:
        session = self.session
        ended = _of(d.EndWorker, decisions)
        linked, launched = _of(d.ConnectWorker, decisions), _of(d.LaunchWorker, decisions)
        seen = [decision.observed for decision in _of(d.RecordWorker, decisions)]
        await endpoints.record_workers(session, seen)
        await endpoints.end_workers(session, {x.worker_id: x.cause for x in ended})
        for link in linked:
            await desired.set_neighbours(session, link.worker_id, link.previous, link.following)
        await endpoints.launch_workers(session, [x.worker_id for x in launched])
        idle_s = {x.endpoint_id: x.idle_s for x in _of(d.MarkIdle, decisions)}
        await endpoints.set_idle(session, idle_s)
        await endpoints.set_busy(session, [x.endpoint_id for x in _of(d.MarkBusy, decisions)])
        self.applied.changed_nodes.update(x.node_id for x in linked)
        self.applied.changed_nodes.update(x.node_id for x in launched)
        self.applied.changed_nodes.update(x.node_id for x in ended if self._is_desired(x))

    def _is_desired(self, ended: d.EndWorker) -> bool:
        endpoint = self.context.before.endpoints.get(ended.endpoint_id)
        workers = endpoint.workers if endpoint is not None else ()
        return any(worker.id == ended.worker_id and worker.is_desired for worker in workers)

    # ----------------------------------------------------------------- endpoints

    async def endpoints(self, decisions: Sequence[d.Decision]) -> None:
        for decision in decisions:
            match decision:
                case d.ServeEndpoint():
                    await self._serve(decision)
                case d.FailEndpoint():
                    await self._fail(decision)
                case d.DrainEndpoint():
                    self._log(decision.endpoint_id, decision.model_id, "drains", decision.why)
                    await endpoints.set_draining(self.session, decision.endpoint_id)
                    self._tell_nodes(decision.endpoint_id)
                case d.StopWorkers():
                    await self._stop(decision)
                case d.FinishEndpoint():
                    self._log(decision.endpoint_id, decision.model_id, "has stopped")
                    await endpoints.set_stopped(self.session, decision.endpoint_id)
                case d.SkipNode():
                    logger.error(
                        "nothing is planned on node %s: %s", decision.node_id, decision.error
                    )
                case d.SkipModel():
                    logger.error(
                        "nothing was decided about model %s in this round:\n%s",
                        *(decision.model_id, decision.error),
                    )

    async def _serve(self, decision: d.ServeEndpoint) -> None:
        endpoint = self._endpoint(decision.endpoint_id)
        is_alone = endpoint.num_stages == 1
        state = EndpointState.STANDALONE if is_alone else EndpointState.PIPELINED
        self._log(endpoint.id, decision.model_id, "serves")
        await endpoints.set_serving(self.session, endpoint.id, state, is_idle=decision.is_idle)
        if endpoint.cold_start_id is not None:
            from_cache = decision.bytes_from_cache
            begun = await coldstarts.set_ready(self.session, endpoint.cold_start_id, from_cache)
            self._trace(endpoint, begun)
        await models.clear_backoff(self.session, decision.model_id)

    async def _fail(self, decision: d.FailEndpoint) -> None:
        endpoint, cause = self._endpoint(decision.endpoint_id), decision.cause
        self._log(endpoint.id, decision.model_id, "failed", words(cause))
        await endpoints.set_failed(self.session, endpoint.id, cause, decision.guilty_worker_id)
        await endpoints.release_workers(self.session, [endpoint.id])
        self._tell_nodes(endpoint.id)
        if endpoint.cold_start_id is not None:
            begun = await coldstarts.end(self.session, endpoint.cold_start_id, cause)
            self._trace(endpoint, begun, words(cause))
        if decision.backoff is not None:
            await models.set_backoff(self.session, decision.model_id, decision.backoff)
        await import_again_if_damaged(self.session, decision)

    async def _stop(self, decision: d.StopWorkers) -> None:
        endpoint = self._endpoint(decision.endpoint_id)
        cause = decision.cause or Cause(CauseKind.NOBODY_WAITED)
        self._log(endpoint.id, decision.model_id, "ends its workers")
        await endpoints.set_draining(self.session, endpoint.id)
        await endpoints.release_workers(self.session, [endpoint.id])
        self._tell_nodes(endpoint.id)
        if endpoint.cold_start_id is not None:
            begun = await coldstarts.end(self.session, endpoint.cold_start_id, cause)
            self._trace(endpoint, begun)

    async def starts(self, decisions: Sequence[d.StartEndpoint]) -> None:
        """Locked, nobody else reserves meanwhile; what does not fit any more is dropped."""
        if not decisions:
            return
        node_ids = {stage.node_id for start in decisions for stage in start.plan.stages}
        locked = await devices.lock_devices(self.session, node_ids)
        free_bytes = {(device.node_id, device.index): device.free_bytes for device in locked}
        for start in decisions:
            after_it = dict(free_bytes)
            places = [(stage.node_id, stage.device_index) for stage in start.plan.stages]
            for place, stage in zip(places, start.plan.stages, strict=True):
                after_it[place] = after_it.get(place, 0) - stage.device_bytes
            # Only of its own: another device of the node may be gone under its reservations.
            if any(after_it[place] < 0 for place in places):
                self._drop(start, "its devices have no room for it any more")
                self.applied.is_out_of_date = True
                continue
            free_bytes = after_it
            await self._begin(start)

    async def _begin(self, start: d.StartEndpoint) -> None:
        occasion = await self._occasion(start)
        trace = await begin_start(
            self.session, self.context.before, self.context.now, start, occasion
        )
        self.applied.after_commit.append(trace)
        self.applied.changed_nodes.update(stage.node_id for stage in start.plan.stages)

    async def _occasion(self, start: d.StartEndpoint) -> StartTrigger:
        if start.request_id is None:
            return StartTrigger()
        arrived_at = await queue.arrived_at(self.session, start.request_id)
        traceparent = self.traces.of(start.request_id)
        if traceparent is None:
            traceparent = await coldstarts.traceparent_of(self.session, start.request_id)
        return StartTrigger(start.request_id, arrived_at, traceparent)

    # ------------------------------------------------------------------ requests

    async def assignments(self, decisions: Sequence[d.AssignRequest]) -> None:
        by_endpoint: defaultdict[str, list[d.AssignRequest]] = defaultdict(list)
        for decision in decisions:
            by_endpoint[decision.endpoint_id].append(decision)
        for endpoint_id, group in by_endpoint.items():
            endpoint = self._endpoint(endpoint_id)
            attempts = {decision.request_id: decision.attempt for decision in group}
            given = await requests.assign(
                self.session, attempts, endpoint_id, endpoint.cold_start_id
            )
            for decision in group:
                if decision.request_id in given:
                    self._tell_assigned(decision, endpoint)
                else:
                    self._drop(decision, "the request has moved on")

    def _tell_assigned(self, decision: d.AssignRequest, endpoint: Endpoint) -> None:
        message = RequestAssigned(
            request_id=decision.request_id,
            attempt=decision.attempt,
            endpoint_id=endpoint.id,
            epoch=endpoint.epoch,
        )
        self._send(Outgoing(REQUEST_ASSIGNED, decision.request_id, message))

    async def losses(self, decisions: Sequence[d.CountLoss]) -> None:
        by_kind: defaultdict[LossKind, list[d.CountLoss]] = defaultdict(list)
        for decision in decisions:
            by_kind[decision.kind].append(decision)
        for kind, group in by_kind.items():
            losses = [(x.request_id, x.endpoint_id) for x in group]
            counted = await request_losses.count(self.session, losses, kind)
            for decision in group:
                if (decision.request_id, decision.endpoint_id) not in counted:
                    self._drop(decision, "the request has ended, or moves at this moment")

    async def ends(self, decisions: Sequence[d.EndRequest]) -> None:
        groups: defaultdict[tuple[Reason, str], list[d.EndRequest]] = defaultdict(list)
        for decision in decisions:
            groups[decision.reason, decision.message].append(decision)
        for (reason, message), group in groups.items():
            ids = [decision.request_id for decision in group]
            ended = await requests.end(self.session, ids, reason.row.outcome, message)
            for decision in group:
                if decision.request_id in ended:
                    self._tell_ended(decision)
                else:
                    self._drop(decision, "the request has ended, or moves at this moment")

    def _tell_ended(self, decision: d.EndRequest) -> None:
        refusal = RequestRefused(
            request_id=decision.request_id,
            attempt=decision.attempt,
            code=decision.reason,
            message=decision.message,
            retry_after_s=decision.retry_after_s,
        )
        self._send(Outgoing(REQUEST_REFUSED, decision.request_id, refusal))
        if decision.endpoint_id is not None:
            # Where no gateway is left to do it; if this is lost, the worker's own deadline ends it.
            cancel = CancelRequest(
                request_id=decision.request_id,
                attempt=decision.attempt,
                unread_ms=self._unread_ms(decision.request_id),
            )
            self._send(Outgoing(ENDPOINT_CANCEL, decision.endpoint_id, cancel))

    def _unread_ms(self, request_id: str) -> int | None:
        before = self.context.before
        request = before.requests.get(request_id)
        unread_s = before.gateways.unread_s(request.gateway_id) if request is not None else None
        return None if unread_s is None else int(1000 * unread_s)

    # --------------------------------------------------------------------- parts

    def _endpoint(self, endpoint_id: str) -> Endpoint:
        endpoint = self.context.before.endpoints.get(endpoint_id)
        assert endpoint is not None, f"{endpoint_id} was decided about, so it was there"
        return endpoint

    def _tell_nodes(self, endpoint_id: str) -> None:
        workers = self._endpoint(endpoint_id).workers
        self.applied.changed_nodes.update(worker.node_id for worker in workers)

    def _send(self, outgoing: Outgoing) -> None:
        self.applied.outgoing.append(outgoing)

    def _drop(self, decision: d.Decision, why: str) -> None:
        kind = type(decision).__name__
        logger.info("%s for model %s is dropped: %s", kind, decision.model_id, why)
        self.dropped.add(id(decision))
        self.applied.dropped_models.add(decision.model_id)

    def _log(self, endpoint_id: str, model_id: str, what: str, why: str = "") -> None:
        logger.info("endpoint %s of model %s %s %s", endpoint_id, model_id, what, why)

    def _trace(
        self, endpoint: Endpoint, begun: ColdStartOrigin | None, error: str | None = None
    ) -> None:
        """The whole start as one span, once its end is on record."""
        if begun is None:
            return
        attributes = {
            "hydra.model": endpoint.model_id,
            "hydra.endpoint": endpoint.id,
            "hydra.nodes": ", ".join(worker.node_id for worker in endpoint.workers),
        }
        ended_at = max(self.context.now, begun.started_at)
        self.applied.after_commit.append(
            lambda: telemetry.record_span(
                *("cold start", begun.traceparent, begun.started_at, ended_at, attributes, error),
                key=endpoint.cold_start_id,  # what its workers and fetches were given as parent
            )
        )
