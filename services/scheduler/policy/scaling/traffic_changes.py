"""What is learnt of a model's traffic as its open requests come and go. Pure.

Only of models that may have several endpoints: of others nothing depends on it. A sweep reads the
rows of all requests, each second, so one that came and ended in between is not seen: of requests
that take less than a second some are missed, the more the shorter they are. They need no endpoint
that the others do not. What a request takes counts from its arrival, or from when its endpoint was
ready, with what it waited for a slot: by Little's law the product is then all who are there, and
whoever waits needs a place, too.
"""

from collections.abc import Mapping

from services.scheduler.policy.nodes.changed_keys import changed_keys
from services.scheduler.policy.persistent import as_map, drop, put
from services.scheduler.policy.scaling.traffic import Traffic
from services.scheduler.policy.snapshot import Snapshot


def with_traffic(before: Snapshot, now: Snapshot) -> Snapshot:
    """`now`, with what came and went since `before`. What is found when all rows are read anew came
    earlier: it may be counted already."""
    if not before.knows_requests:
        return now
    old, new = before.requests.versions("model"), now.requests.versions("model")
    traffic: Mapping[str, Traffic] = now.traffic
    for model_id in changed_keys(old, new):
        model = now.models.get(model_id)
        if model is not None and model.max_endpoints > 1:
            traffic = put(traffic, model_id, _moved(before, now, model_id))
    return now if traffic is now.traffic else now.changed(traffic=traffic)


def without_old_traffic(snapshot: Snapshot) -> Snapshot:
    """Of models that nobody has asked lately nothing is kept."""
    traffic: Mapping[str, Traffic] = snapshot.traffic
    for model_id, of_model in as_map(traffic).items():
        is_asked = snapshot.requests.count("model", model_id)
        if of_model.arrivals.is_over(snapshot.now_s) and not is_asked:
            traffic = drop(traffic, model_id)
    return snapshot if traffic is snapshot.traffic else snapshot.changed(traffic=traffic)


def _moved(before: Snapshot, now: Snapshot, model_id: str) -> Traffic:
    known = now.traffic.get(model_id) or Traffic()
    old, new = before.requests.ids("model", model_id), now.requests.ids("model", model_id)
    arrivals, is_old, is_new = known.arrivals, set(old), set(new)
    for id_ in sorted(is_new - is_old):
        arrivals = arrivals.add(now.requests[id_].arrived_at_s)
    ended = (_service_s(before, now.now_s, id_) for id_ in sorted(is_old - is_new))
    services = known.services.extend(seconds for seconds in ended if seconds is not None)
    return Traffic(arrivals, services)


def _service_s(before: Snapshot, now_s: float, request_id: str) -> float | None:
    """None: it was never given to an endpoint that served."""
    request = before.requests[request_id]
    endpoint = before.endpoints.get(request.endpoint_id)
    if endpoint is None or not endpoint.state.is_serving or endpoint.ready_since_s is None:
        return None
    return max(0.0, now_s - max(request.arrived_at_s, endpoint.ready_since_s))
