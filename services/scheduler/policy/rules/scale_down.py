"""Lets endpoints go that a model has not needed for a while, although they have work. Pure.

Requests are spread over all endpoints of a model, so that none of them may ever be idle for its
keep-alive. Those that are too many, by the most that was needed within the window, take nothing new
and end what they run. The last one, and those that its model shall always have, stay.
"""

from collections.abc import Collection, Iterator

from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.persistent import drop, put
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.autoscaler import (
    EndpointBounds,
    kept_endpoints,
    needed_endpoints,
    surplus_endpoints,
)
from services.scheduler.policy.scaling.need_history import MIN_WINDOW_S, NeedHistory
from services.scheduler.policy.scaling.traffic import Traffic
from services.scheduler.policy.snapshot import Snapshot


def scale_down(builder: DecisionBuilder, model_ids: Collection[str]) -> None:
    """In a sweep: of the models that are looked at, and of all whose need is followed."""
    candidates = {*builder.snapshot.needs, *(m for m in model_ids if _has_several(builder, m))}
    for model_id in sorted(candidates):
        history = builder.ask(model_id, _need, model_id)
        needs = builder.snapshot.needs
        if history is None:
            builder.snapshot = builder.snapshot.changed(needs=drop(needs, model_id))
            continue
        builder.snapshot = builder.snapshot.changed(needs=put(needs, model_id, history))
        builder.apply_rule(model_id, _let_go, model_id, history)


def _has_several(builder: DecisionBuilder, model_id: str) -> bool:
    return len(_live(builder.snapshot, model_id)) > 1


def _need(snapshot: Snapshot, model_id: str) -> NeedHistory | None:
    """With this moment's; None of a model of which none is too many."""
    model, live = snapshot.models.get(model_id), _live(snapshot, model_id)
    if model is None or len(live) < 2:
        return None
    num_running = sum(_num_running(snapshot, endpoint) for endpoint in live)
    traffic = snapshot.traffic.get(model_id) or Traffic()
    load = traffic.load(snapshot.demand(model_id).num_waiting, num_running, snapshot.now_s)
    history = snapshot.needs.get(model_id) or NeedHistory(snapshot.now_s)
    needed = needed_endpoints(load, model.max_slots)
    return history.add(snapshot.now_s, needed, _window_s(snapshot, model))


def _let_go(snapshot: Snapshot, model_id: str, history: NeedHistory) -> Iterator[d.Decision]:
    model, live = snapshot.models[model_id], _live(snapshot, model_id)
    peak = history.peak(snapshot.now_s, _window_s(snapshot, model))
    if peak is None:
        return
    bounds = EndpointBounds(model.min_endpoints, model.max_endpoints)
    serving = [endpoint for endpoint in live if endpoint.state.is_serving]
    # The emptiest, and of equals the youngest: what was there first stays.
    emptiest = sorted(reversed(serving), key=lambda endpoint: _num_running(snapshot, endpoint))
    for endpoint in emptiest[: surplus_endpoints(peak, len(serving), bounds)]:
        yield d.DrainEndpoint(model_id, endpoint.id, _why(peak, bounds))


def _why(peak: int, bounds: EndpointBounds) -> str:
    num_kept = kept_endpoints(peak, bounds)
    if num_kept < peak:
        return f"the model may have no more endpoints than {num_kept}"
    return f"{num_kept} endpoints have been enough for the model for a while"


def _window_s(snapshot: Snapshot, model: Model) -> float:
    """As long as one that nobody asks would be kept."""
    if not model.is_keep_alive_auto:
        return max(MIN_WINDOW_S, model.keep_alive_s)
    activity = snapshot.activities.get(model.id) or ModelActivity()
    return max(MIN_WINDOW_S, activity.plan.keep_s)


def _num_running(snapshot: Snapshot, endpoint: Endpoint) -> int:
    entry = snapshot.observed.entry(endpoint)
    num_observed = entry.num_running + entry.num_waiting if entry is not None else 0
    return max(snapshot.num_assigned(endpoint.id), num_observed)


def _live(snapshot: Snapshot, model_id: str) -> list[Endpoint]:
    endpoints = snapshot.endpoints.by("model", model_id)
    return [endpoint for endpoint in endpoints if endpoint.state.can_take_requests]
