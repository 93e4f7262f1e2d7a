"""Which models need an endpoint, and in which order they get one. Pure.

What is found out of a model is kept with the snapshot until something that it depends on is another
value, or its time has come: of thousands that wait few are asked again in a round.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import inf

from libs.common.states import ModelState, StartPurpose
from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.persistent import as_map
from services.scheduler.policy.planning.start_order import (
    Place,
    StartPlaces,
    WaitingModel,
    start_order,
)
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.autoscaler import (
    EndpointBounds,
    future_endpoints,
    missing_endpoints,
)
from services.scheduler.policy.scaling.expected import expected_endpoints
from services.scheduler.policy.scaling.needed import needed_now
from services.scheduler.policy.scaling.unasked import next_ahead_s, unasked_start
from services.scheduler.policy.snapshot import ORPHAN_S, Snapshot


def in_start_order(builder: DecisionBuilder, candidates: Collection[str]) -> list[str]:
    """Those of the candidates that need an endpoint, first in turn first."""
    places = _places(builder, candidates)
    builder.snapshot = builder.snapshot.changed(places=places)
    found = (places.by_model.get(model_id) for model_id in candidates)
    waiting = [place.waiting for place in found if place is not None and place.waiting is not None]
    return _in_turn(builder.snapshot, waiting)


def in_start_order_again(builder: DecisionBuilder, begun: Collection[str]) -> list[str]:
    """Those of the models of which one has just begun to start that need another one."""
    found = (builder.ask(model_id, _waiting, model_id) for model_id in begun)
    return _in_turn(builder.snapshot, [model for model in found if model is not None])


def _in_turn(snapshot: Snapshot, waiting: Collection[WaitingModel]) -> list[str]:
    endpoints, tenants = snapshot.endpoints, {model.tenant for model in waiting}
    return start_order(waiting, {id_: endpoints.count("live of tenant", id_) for id_ in tenants})


def _places(builder: DecisionBuilder, candidates: Collection[str]) -> StartPlaces:
    """As they are now; of a model that is skipped in this round there is none."""
    snapshot = builder.snapshot
    places, sources = _of_now(snapshot), _sources(snapshot)
    by_model = as_map(places.by_model).mutate()
    for model_id in _perhaps_others(places, sources, candidates, snapshot.now_s):
        known, inputs = by_model.get(model_id), tuple(of.get(model_id) for of in sources)
        if known is not None and known.holds(inputs, snapshot.now_s):
            continue
        place = builder.ask(model_id, _place, model_id, inputs)
        if place is not None:
            by_model[model_id] = place
        else:
            by_model.pop(model_id, None)
    if len(by_model) > len(candidates):
        known_ids = set(places.by_model)
        for gone in known_ids.difference(candidates):
            by_model.pop(gone, None)
    return replace(places, by_model=by_model.finish(), sources=sources)


def _perhaps_others(
    places: StartPlaces,
    sources: Sequence[Mapping[str, object]],
    candidates: Collection[str],
    now_s: float,
) -> set[str]:
    """Of all other candidates what their places were made of is the same, and holds."""
    known = places.by_model.get
    found = {id_ for id_ in candidates if (place := known(id_)) is None or place.until_s <= now_s}
    if not places.sources:
        return set(candidates)
    for before, now in zip(places.sources, sources, strict=True):
        if now is not before:
            old, new = before.get, now.get
            found.update([id_ for id_ in candidates if old(id_) is not new(id_)])
    return found


def _of_now(snapshot: Snapshot) -> StartPlaces:
    """The places as they were, or none if a gateway is heard or lost that was not: its requests
    count in another way. One that is new has made its models' requests other values."""
    gateways = snapshot.gateways
    states = {
        id_: (gateways.is_heard(id_), gateways.is_lost(id_))
        for id_ in snapshot.requests.keys_of("gateway")
    }
    known = snapshot.places.gateways
    if any(known.get(id_, state) != state for id_, state in states.items()):
        return StartPlaces(states)
    return replace(snapshot.places, gateways=states)


def _sources(snapshot: Snapshot) -> tuple[Mapping[str, object], ...]:
    """What a model's place depends on beside time and gateways: values that are compared by
    identity, because whoever changes one makes another."""
    return (
        snapshot.models,
        snapshot.requests.versions("model"),
        snapshot.endpoints.versions("model"),
        snapshot.failures.versions("model"),
        snapshot.activities,
        snapshot.commands,
        snapshot.traffic,
    )


def _place(snapshot: Snapshot, model_id: str, made_of: tuple[object, ...]) -> Place:
    return Place(_waiting(snapshot, model_id), _until_s(snapshot, model_id), made_of)


def _waiting(snapshot: Snapshot, model_id: str) -> WaitingModel | None:
    """None if it needs no endpoint, or cannot have one now."""
    model = snapshot.models.get(model_id)
    if model is None or model.state is not ModelState.READY or model.backs_off(snapshot.now_s):
        return None
    live = _live(snapshot, model_id)
    demand = snapshot.demand(model_id)
    if _missing(snapshot, model, live):
        return WaitingModel(model_id, model.tenant, len(live), demand.arrived_at_s)
    if _unasked_purpose(snapshot, model, live) is None:
        return None
    return WaitingModel(model_id, model.tenant, len(live), arrived_at_s=inf, is_asked=False)


def purpose_of_next(snapshot: Snapshot, model: Model) -> StartPurpose | None:
    """Why the model gets another endpoint; None: it needs none."""
    live = _live(snapshot, model.id)
    if _missing(snapshot, model, live):
        return StartPurpose.REQUEST
    return _unasked_purpose(snapshot, model, live)


def _unasked_purpose(
    snapshot: Snapshot, model: Model, live: Collection[Endpoint]
) -> StartPurpose | None:
    activity = snapshot.activities.get(model.id) or ModelActivity()
    commands = snapshot.commands.get(model.id, ())
    num_future = _num_future(snapshot, live)
    purpose = unasked_start(model, activity, commands, num_future, snapshot.now_s)
    return purpose or (StartPurpose.LOAD if _is_outgrown(snapshot, model, live) else None)


def _is_outgrown(snapshot: Snapshot, model: Model, live: Collection[Endpoint]) -> bool:
    """By requests that will be there, if they go on to come as they do. A first one is started by
    whoever waits."""
    return bool(live) and expected_endpoints(snapshot, model) > _num_future(snapshot, live)


def _missing(snapshot: Snapshot, model: Model, live: Collection[Endpoint]) -> int:
    bounds = EndpointBounds(at_most=model.max_endpoints)
    needed = needed_now(snapshot, model, live)
    return missing_endpoints(needed, _num_future(snapshot, live), bounds)


def _until_s(snapshot: Snapshot, model_id: str) -> float:
    """When time alone changes it: a back-off is over, or nobody comes again for an orphan."""
    model, now_s = snapshot.models.get(model_id), snapshot.now_s
    if model_id in snapshot.traffic:
        return now_s + 1.0
    moments = [failure.at_s + ORPHAN_S for failure in snapshot.failures.by("model", model_id)]
    if model is not None and model.backoff_until_s is not None:
        moments.append(model.backoff_until_s)
    activity = snapshot.activities.get(model_id) or ModelActivity()
    if model is not None and model.is_keep_alive_auto:
        moments.append(next_ahead_s(activity, now_s))
    moments += [command.deadline_at_s for command in snapshot.commands.get(model_id, ())]
    return min((at_s for at_s in moments if at_s > now_s), default=inf)


def _num_future(snapshot: Snapshot, live: Collection[Endpoint]) -> int:
    return future_endpoints(live, can_consolidate=snapshot.limits.can_consolidate)


def _live(snapshot: Snapshot, model_id: str) -> list[Endpoint]:
    endpoints = snapshot.endpoints.by("model", model_id)
    return [endpoint for endpoint in endpoints if endpoint.state.can_take_requests]
