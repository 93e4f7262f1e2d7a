"""Collects the steps of cold starts from whoever reports them, and writes what is new."""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import inf

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import FetchObserved, Step
from libs.common.observability import telemetry
from libs.common.observability.timeline import CONSOLIDATION, HOP
from libs.common.records.database import is_conflict, is_unavailability
from libs.common.states import EndpointState, FetchState
from services.scheduler.observation.hops import hops
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.consolidation.facts import fetch_of
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.tables.table import Table
from services.scheduler.store.starts.steps import (
    SCHEDULER_ACTOR,
    ActorStep,
    raise_cached_bytes,
    record_steps,
)

logger = logging.getLogger(__name__)

MAX_STEP_NAME = 64
_ENDED = (FetchState.COMPLETE, FetchState.FAILED)
TIDY_INTERVAL_S = 60.0
LATE_STEPS_INTERVAL_S = 5.0  # between two looks at endpoints of whose starts all is written


def fetch_actor(fetch_id: str) -> str:
    return f"fetch/{fetch_id}"


def delivery_actor(receiver_id: str) -> str:
    """The scheduler, telling a node of the worker or the fetch of this id."""
    return f"{SCHEDULER_ACTOR}/{receiver_id}"


@dataclass
class Timeline:
    _written: dict[str, tuple[Step, ...]] = field(default_factory=dict)  # by actor
    _deliveries: dict[str, tuple[Step, ...]] = field(default_factory=dict)  # by worker or fetch
    _traceparents: dict[str, str | None] = field(default_factory=dict)  # by worker or fetch
    _hops: dict[str, Step] = field(default_factory=dict)  # by the worker that they came to
    _finished: set[str] = field(default_factory=set)  # endpoints of whose start all is written
    _tidied_at_s: float = -inf
    _looked_at_all_s: float = -inf

    def delivered(self, receiver_id: str, step: Step, traceparent: str | None) -> None:
        """A node accepted a worker or a fetch; only the first time is a step of the start."""
        known = self._deliveries.get(receiver_id, ())
        if all(step.name != other.name for other in known):
            self._deliveries[receiver_id] = (*known, step)
            self._traceparents[receiver_id] = traceparent
            name = f"{SCHEDULER_ACTOR}.{step.name}"
            _trace(name, {"receiver_id": receiver_id}, step, traceparent)

    async def record(
        self, session: AsyncSession, observed: Observed, endpoints: Iterable[Endpoint]
    ) -> list[Callable[[], None]]:
        """Write what these endpoints' nodes newly say; what is returned is for after the commit."""
        found = list(endpoints)
        told = await self._try(session, observed, found)
        if told is not None:
            return told
        logger.warning("steps are recorded endpoint by endpoint")
        each = [await self._try(session, observed, [endpoint]) for endpoint in found]
        return [remember for told in each for remember in told or ()]

    async def _try(
        self, session: AsyncSession, observed: Observed, endpoints: list[Endpoint]
    ) -> list[Callable[[], None]] | None:
        """Together; None if that failed and nothing was written."""
        after_commit: list[Callable[[], None]] = []
        try:
            steps = [s for e in endpoints for s in self._unwritten(observed, e, after_commit)]
            if steps:
                cached = _late_cached_bytes(observed, endpoints, {s.cold_start_id for s in steps})
                async with session.begin_nested():
                    await record_steps(session, steps)
                    await raise_cached_bytes(session, cached)
        except Exception as exc:
            if is_unavailability(exc) and not is_conflict(exc):
                raise
            logger.exception("steps of %d endpoints were not recorded", len(endpoints))
            return None
        return after_commit

    def unfinished(self, endpoints: Table[Endpoint], now_s: float) -> dict[str, Endpoint]:
        """Those of whose starts there may be something to write, by id: of thousands few start, and
        of the others a late step can wait. What is known of others' workers is forgotten."""
        if now_s - self._tidied_at_s >= TIDY_INTERVAL_S:
            self._tidied_at_s = now_s
            self._keep_only(endpoints)
        if now_s - self._looked_at_all_s >= LATE_STEPS_INTERVAL_S:
            self._looked_at_all_s = now_s
            return dict(endpoints.rows)
        return {id_: endpoints[id_] for id_ in endpoints.rows if id_ not in self._finished}

    def _keep_only(self, endpoints: Table[Endpoint]) -> None:
        workers = [worker for endpoint in endpoints for worker in endpoint.workers]
        targets = (w.consolidation.fetch_id for w in workers if w.consolidation is not None)
        started = (id_ for w in workers for id_ in (w.id, w.fetch_id) if id_)
        self._forget_all_but({*started, *targets})
        self._finished = {id_ for id_ in self._finished if id_ in endpoints}

    def _unwritten(
        self, observed: Observed, endpoint: Endpoint, after_commit: list[Callable[[], None]]
    ) -> Iterable[ActorStep]:
        if endpoint.cold_start_id is None:
            self._finished.add(endpoint.id)
            return
        self._find_hops(observed, endpoint)
        num_told = 0
        for worker in endpoint.workers:
            for actor, steps in self._reported(observed, worker).items():
                if self._written.get(actor, ()) != steps:
                    num_told += 1
                    after_commit.append(partial(self._written.update, {actor: steps}))
                    for step in steps:
                        yield ActorStep(
                            endpoint.cold_start_id, actor, worker.node_id, worker.stage_index, step
                        )
        is_started = endpoint.state is not EndpointState.STARTING
        if num_told == 0 and is_started and _has_fetched(observed, endpoint):
            self._finished.add(endpoint.id)
        else:
            self._finished.discard(endpoint.id)

    def _find_hops(self, observed: Observed, endpoint: Endpoint) -> None:
        workers = {worker.stage_index: worker for worker in endpoint.workers}
        found = hops({index: _told(observed, worker) for index, worker in workers.items()})
        for index, hop in found.items():
            worker_id = workers[index].id
            if worker_id not in self._hops:
                self._hops[worker_id] = hop
                if worker_id in self._traceparents:  # an earlier leader's start has its spans
                    traceparent = self._traceparents[worker_id]
                    _trace(f"worker.{HOP}", {"worker_id": worker_id}, hop, traceparent)

    def _reported(self, observed: Observed, worker: Worker) -> dict[str, tuple[Step, ...]]:
        hop = self._hops.get(worker.id)
        own = {
            worker.id: (*_told(observed, worker), *([] if hop is None else [hop])),
            delivery_actor(worker.id): self._deliveries.get(worker.id, ()),
        }
        if worker.fetch_id is not None:
            own |= self._of_fetch(worker.fetch_id, observed.fetch(worker))
        open_ = worker.consolidation
        if open_ is not None:
            rest = self._of_fetch(open_.fetch_id, fetch_of(observed, worker, open_))
            own |= {actor: tuple(map(of_consolidation, steps)) for actor, steps in rest.items()}
        return own

    def _of_fetch(self, fetch_id: str, fetch: FetchObserved | None) -> dict[str, tuple[Step, ...]]:
        return {
            fetch_actor(fetch_id): fetch.steps if fetch is not None else (),
            delivery_actor(fetch_id): self._deliveries.get(fetch_id, ()),
        }

    def _forget_all_but(self, ids: set[str]) -> None:
        """Of workers and fetches."""
        for known in (self._deliveries, self._traceparents, self._hops):
            for id_ in known.keys() - ids:
                del known[id_]
        for actor in [a for a in self._written if a.rpartition("/")[2] not in ids]:
            del self._written[actor]


def of_consolidation(step: Step) -> Step:
    """A step of what follows the start, under a name that says so."""
    return step.model_copy(update={"name": f"{CONSOLIDATION}{step.name}"[:MAX_STEP_NAME]})


def _has_fetched(observed: Observed, endpoint: Endpoint) -> bool:
    """Whether the ends of all its start's fetches were heard: a worker that finds its weights in
    the host cache can be ready before its fetcher has spoken of them."""
    fetches = [observed.fetch(worker) for worker in endpoint.member_workers]
    return all(fetch is not None and fetch.state in _ENDED for fetch in fetches)


def _late_cached_bytes(
    observed: Observed, endpoints: Iterable[Endpoint], told: Collection[str]
) -> dict[str, int]:
    """By cold start of those of which something new was told since they serve: how much of the
    weights the host caches had, as far as that was heard."""
    return {
        endpoint.cold_start_id: sum(
            fetch.bytes_from_cache
            for worker in endpoint.member_workers
            if (fetch := observed.fetch(worker)) is not None
        )
        for endpoint in endpoints
        if endpoint.cold_start_id is not None
        and endpoint.cold_start_id in told
        and endpoint.state is not EndpointState.STARTING
    }


def _told(observed: Observed, worker: Worker) -> tuple[Step, ...]:
    seen = observed.worker(worker)
    return () if seen is None else seen.steps


def _trace(name: str, attributes: dict[str, str], step: Step, traceparent: str | None) -> None:
    assert step.ended_at is not None, "it was told"
    telemetry.record_span(
        name,
        traceparent,
        step.started_at,
        step.ended_at,
        attributes,
    )
