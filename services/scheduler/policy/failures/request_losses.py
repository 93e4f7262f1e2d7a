"""What counts against a request of the endpoints that it was lost with. Pure.

An engine that crashed may have crashed because of the request; a lost node has not. But a request
under which either happens too often ends: it must not take the cluster with it.
"""

from dataclasses import replace

from libs.common.causes import Fault
from libs.common.states import LossKind
from services.scheduler.policy.cluster import EndpointFailure, OpenRequest

MAX_ENGINE_CRASHES = 4  # with which a request ends
MAX_NODE_LOSSES = 3

_KINDS = {
    Fault.MODEL: LossKind.ENGINE_CRASH,
    Fault.REQUEST: LossKind.ENGINE_CRASH,
    Fault.BUG: LossKind.ENGINE_CRASH,
    Fault.NODE: LossKind.NODE_LOSS,
}


def kind_of(failure: EndpointFailure, num_engine_crashes: int) -> LossKind:
    """A start that fails says nothing about a request that it was given, unless engines have
    crashed under that one before: the first tokens are computed before a start is over."""
    kind = _KINDS.get(failure.fault, LossKind.OTHER)
    is_again = kind is LossKind.ENGINE_CRASH and num_engine_crashes > 0
    return kind if failure.has_been_ready or is_again else LossKind.OTHER


def counted(request: OpenRequest, endpoint_id: str, kind: LossKind) -> OpenRequest:
    """The request once the end of an endpoint that it was lost with counts as that."""
    losses = (replace(x, kind=kind) if x.endpoint_id == endpoint_id else x for x in request.losses)
    return replace(
        request,
        num_engine_crashes=request.num_engine_crashes + (kind is LossKind.ENGINE_CRASH),
        num_node_losses=request.num_node_losses + (kind is LossKind.NODE_LOSS),
        losses=tuple(losses),
    )


def why_no_more_attempts(request: OpenRequest) -> str | None:
    """In words; None while it may be tried again."""
    if request.num_engine_crashes >= MAX_ENGINE_CRASHES:
        return f"{request.num_engine_crashes} engines crashed while they served this request"
    if request.num_node_losses >= MAX_NODE_LOSSES:
        return f"{request.num_node_losses} nodes were lost while they served this request"
    return None
