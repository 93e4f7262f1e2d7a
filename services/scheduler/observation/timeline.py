"""Collects the steps of cold starts from whoever reports them, and writes what is new."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.common.bus.messages import Step
from libs.common.observability import telemetry
from libs.common.observability.timeline import HOP
from services.scheduler.observation.hops import hops
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.rounds.round import Round
from services.scheduler.store import coldstarts
from services.scheduler.store.coldstarts import SCHEDULER_ACTOR, ActorStep


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

    def delivered(self, receiver_id: str, step: Step, traceparent: str | None) -> None:
        """A node accepted a worker or a fetch; only the first time is a step of the start."""
        known = self._deliveries.get(receiver_id, ())
        if all(step.name != other.name for other in known):
            self._deliveries[receiver_id] = (*known, step)
            self._traceparents[receiver_id] = traceparent
            name = f"{SCHEDULER_ACTOR}.{step.name}"
            _trace(name, {"receiver_id": receiver_id}, step, traceparent)

    async def record(self, round_: Round, fleet: tuple[Endpoint, ...]) -> None:
        steps = [step for endpoint in fleet for step in self._news(round_, endpoint)]
        await coldstarts.record_steps(round_.session, steps)
        workers = [worker for endpoint in fleet for worker in endpoint.workers]
        self._forget_all_but({id_ for w in workers for id_ in (w.id, w.fetch_id) if id_})

    def _news(self, round_: Round, endpoint: Endpoint) -> Iterable[ActorStep]:
        if endpoint.cold_start_id is None:
            return
        self._find_hops(round_, endpoint)
        for worker in endpoint.workers:
            for actor, steps in self._reported(round_, worker).items():
                if self._written.get(actor, ()) != steps:
                    self._remember(round_, actor, steps)
                    for step in steps:
                        yield ActorStep(
                            endpoint.cold_start_id, actor, worker.node_id, worker.stage_index, step
                        )

    def _find_hops(self, round_: Round, endpoint: Endpoint) -> None:
        workers = {worker.stage_index: worker for worker in endpoint.workers}
        found = hops({index: _told(round_, worker) for index, worker in workers.items()})
        for index, hop in found.items():
            worker_id = workers[index].id
            if worker_id not in self._hops:
                self._hops[worker_id] = hop
                if worker_id in self._traceparents:  # an earlier leader's start has its spans
                    traceparent = self._traceparents[worker_id]
                    _trace(f"worker.{HOP}", {"worker_id": worker_id}, hop, traceparent)

    def _reported(self, round_: Round, worker: Worker) -> dict[str, tuple[Step, ...]]:
        hop = self._hops.get(worker.id)
        own = {
            worker.id: (*_told(round_, worker), *([] if hop is None else [hop])),
            delivery_actor(worker.id): self._deliveries.get(worker.id, ()),
        }
        if worker.fetch_id is None:
            return own
        fetch = round_.observed.fetch(worker.node_id, worker.fetch_id)
        return own | {
            fetch_actor(worker.fetch_id): fetch.steps if fetch is not None else (),
            delivery_actor(worker.fetch_id): self._deliveries.get(worker.fetch_id, ()),
        }

    def _remember(self, round_: Round, actor: str, steps: tuple[Step, ...]) -> None:
        round_.after_commit.append(lambda: self._written.update({actor: steps}))

    def _forget_all_but(self, ids: set[str]) -> None:
        """Of workers and fetches."""
        for known in (self._deliveries, self._traceparents, self._hops):
            for id_ in known.keys() - ids:
                del known[id_]
        for actor in [a for a in self._written if a.rpartition("/")[2] not in ids]:
            del self._written[actor]


def _told(round_: Round, worker: Worker) -> tuple[Step, ...]:
    observed = round_.observed.worker(worker.node_id, worker.id)
    return () if observed is None else observed.steps


def _trace(name: str, attributes: dict[str, str], step: Step, traceparent: str | None) -> None:
    assert step.ended_at is not None, "it was told"
    telemetry.record_span(
        name,
        traceparent,
        step.started_at,
        step.ended_at,
        attributes,
    )
