"""Carries out what operators ask for, of endpoints that are there. Pure.

A preload that finds none starts one (`start_candidates.py`), as soon as there is room for it, and
waits until it serves: a start may fail, or lose what it was started for.
"""

from collections.abc import Iterator

from libs.common.causes import Cause, CauseKind
from libs.common.states import EndpointState, ModelCommandKind, ModelState, StartPurpose
from services.scheduler.policy import decisions as d
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.scaling.unasked import ModelCommand
from services.scheduler.policy.snapshot import Snapshot


def carry_out_commands(builder: DecisionBuilder) -> None:
    """The oldest of a model first; each finds what those before it have left."""
    for model_id in sorted(builder.snapshot.commands):
        for command in builder.snapshot.commands[model_id]:
            rule = _unload if command.kind is ModelCommandKind.UNLOAD else _preload
            builder.apply_rule(model_id, rule, command)


def _unload(snapshot: Snapshot, command: ModelCommand) -> Iterator[d.Decision]:
    """What runs is answered. Whoever waits gets a new endpoint, as after any other end; a preload
    that was asked for before waits for nothing any more."""
    for endpoint in _live(snapshot, command.model_id):
        if endpoint.state.is_serving:
            yield d.DrainEndpoint(command.model_id, endpoint.id, "it is unloaded")
        elif _is_nobodys(snapshot, endpoint):
            cause = Cause(CauseKind.NOBODY_WAITED)
            yield d.StopWorkers(command.model_id, endpoint.id, cause)
    for earlier in _preloads_before(snapshot, command):
        yield d.EndCommand(command.model_id, earlier.id, "it was unloaded since")
    yield d.EndCommand(command.model_id, command.id, "its endpoints are asked to go")


def _preloads_before(snapshot: Snapshot, command: ModelCommand) -> list[ModelCommand]:
    commands = snapshot.commands[command.model_id]
    earlier = commands[: commands.index(command)]
    return [one for one in earlier if one.kind is ModelCommandKind.PRELOAD]


def _preload(snapshot: Snapshot, command: ModelCommand) -> Iterator[d.Decision]:
    model, live = snapshot.models.get(command.model_id), _live(snapshot, command.model_id)
    serving = [endpoint for endpoint in live if endpoint.state.is_serving]
    if serving:
        for endpoint in serving:
            if endpoint.idle_since_s is not None:
                yield d.RenewKeepAlive(command.model_id, endpoint.id)
        yield d.EndCommand(command.model_id, command.id, "an endpoint is there")
    elif command.is_over(snapshot.now_s):
        yield d.EndCommand(command.model_id, command.id, "nothing was there by its deadline")
    elif model is None or model.state in (ModelState.FAILED, ModelState.DELETING):
        yield d.EndCommand(command.model_id, command.id, "its model cannot be started")


def _is_nobodys(snapshot: Snapshot, endpoint: Endpoint) -> bool:
    demand = snapshot.demand(endpoint.model_id)
    return not (demand.num_waiting + demand.num_unheard + snapshot.num_assigned(endpoint.id))


def _live(snapshot: Snapshot, model_id: str) -> list[Endpoint]:
    endpoints = snapshot.endpoints.by("model", model_id)
    return [endpoint for endpoint in endpoints if endpoint.state.can_take_requests]


def hurry_starts(snapshot: Snapshot, model_id: str) -> Iterator[d.Decision]:
    """Of what was started for nobody: somebody waits for it now."""
    for endpoint in snapshot.endpoints.by("model", model_id):
        is_unasked = endpoint.purpose is not StartPurpose.REQUEST
        is_starting = endpoint.state is EndpointState.STARTING
        if is_unasked and is_starting and snapshot.num_assigned(endpoint.id):
            yield d.HurryStart(model_id, endpoint.id)
