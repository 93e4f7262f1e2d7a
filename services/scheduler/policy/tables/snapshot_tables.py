"""The tables of a snapshot that are as large as the fleet, with their indexes. Pure."""

from collections.abc import Mapping
from math import floor

from libs.common.states import EndpointState, StartPurpose
from services.scheduler.policy.cluster import Endpoint, EndpointFailure, OpenRequest
from services.scheduler.policy.tables.table import Schema, Table

_ENDPOINTS = Schema[Endpoint](
    {
        "model": lambda endpoint: (endpoint.model_id,),
        "node": lambda endpoint: (worker.node_id for worker in endpoint.workers),
        "unsettled": lambda endpoint: () if endpoint.state.is_serving else ("",),
        "live of tenant": lambda e: (e.tenant,) if e.state.can_take_requests else (),
        "room": lambda e: _kind_of_room(e),
        "pipeline": lambda e: ("",) if e.is_consolidatable else (),
        "consolidating": lambda e: ("",) if e.consolidation or e.growing_workers else (),
    },
    watched=("node",),
)
_REQUESTS = Schema[OpenRequest](
    {
        "model": lambda request: (request.model_id,),
        "endpoint": lambda request: () if request.is_queued else (request.endpoint_id or "",),
        "gateway": lambda request: (request.gateway_id,),
        "queue": lambda request: (request.model_id,) if request.is_queued else (),
        "crashed": lambda request: (request.model_id,) if request.num_engine_crashes else (),
        "end": lambda request: (str(floor(request.ends_at_s)),),
        "lossy": lambda request: (request.model_id,) if request.has_losses else (),
    },
    {"queue": lambda request: request.arrived_at_s},
)

_FAILURES = Schema[EndpointFailure]({"model": lambda failure: (failure.model_id,)})


def endpoint_table(rows: Mapping[str, Endpoint] | None = None) -> Table[Endpoint]:
    """Indexed by model, by the nodes of all workers, and by tenant while they live; under one key
    those that start or end; by what becomes of their room: who is leaving, and who is idle; under
    one key each those that can become one worker, and those of which some worker is about to."""
    return Table(_ENDPOINTS).updated(rows or {})


def _kind_of_room(endpoint: Endpoint) -> tuple[str, ...]:
    if not endpoint.state.can_take_requests or not all(w.is_desired for w in endpoint.workers):
        return ("leaving",)
    if endpoint.idle_since_s is not None or _starts_for_nobody(endpoint):
        return ("idle",)
    return ()


def _starts_for_nobody(endpoint: Endpoint) -> bool:
    is_ahead = endpoint.purpose in (StartPurpose.AHEAD, StartPurpose.LOAD)
    return is_ahead and endpoint.state is EndpointState.STARTING


def request_table(rows: Mapping[str, OpenRequest] | None = None) -> Table[OpenRequest]:
    """Indexed by model, by endpoint once assigned, and by gateway; by model once more where they
    are queued, whoever came first in front, where engines have crashed under them, and where they
    were lost with any endpoint; and by the second in which they are ended for their deadline."""
    return Table(_REQUESTS).updated(rows or {})


def failure_table(rows: Mapping[str, EndpointFailure] | None = None) -> Table[EndpointFailure]:
    """By endpoint; indexed by model."""
    return Table(_FAILURES).updated(rows or {})
