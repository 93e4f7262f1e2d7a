"""What the decisions of one savepoint are carried out with, and what has come of them so far."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.observability import telemetry
from services.scheduler.observation.trace_contexts import TraceContexts
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.rounds.applied import Applied, RoundContext
from services.scheduler.store.starts.coldstarts import ColdStartOrigin

logger = logging.getLogger(__name__)

D = TypeVar("D", bound=d.Decision)


def of_kind(kind: type[D], decisions: Iterable[d.Decision]) -> list[D]:
    return [decision for decision in decisions if isinstance(decision, kind)]


@dataclass
class BatchState:
    session: AsyncSession
    context: RoundContext
    traces: TraceContexts
    applied: Applied = field(default_factory=Applied)
    dropped: set[int] = field(default_factory=set)  # identities of decisions
    separated: dict[str, Endpoint] = field(default_factory=dict)  # new ones; they take requests

    def endpoint(self, endpoint_id: str) -> Endpoint:
        before = self.context.before.endpoints
        endpoint = before.get(endpoint_id) or self.separated.get(endpoint_id)
        assert endpoint is not None, f"{endpoint_id} was decided about, so it was there"
        return endpoint

    def tell_nodes(self, endpoint_id: str) -> None:
        """Of its workers: what they shall run is another now."""
        workers = self.endpoint(endpoint_id).workers
        self.applied.changed_nodes.update(worker.node_id for worker in workers)

    def drop(self, decision: d.Decision, why: str) -> None:
        """It no longer fits the rows."""
        kind = type(decision).__name__
        logger.info("%s for model %s is dropped: %s", kind, decision.model_id, why)
        self.dropped.add(id(decision))
        self.applied.dropped_models.add(decision.model_id)

    def trace_start(
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
