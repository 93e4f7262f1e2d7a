"""What is to be done now: one pure function over one immutable value.

The rules stand in the order in which they matter, and each sees what those before it decided:

1. requests that nobody will serve end,
2. endpoints follow what their workers report, and move on; pipelines that have become one worker
   are recorded as that before anything else is said of them,
3. ends of endpoints are counted for the requests that these had; whoever had too many ends, and
   so do requests of models that fail to start,
4. stages of pipelines are linked, workers that waited for their weights are launched,
5. queued requests go to free slots,
6. what operators ask for is carried out, and endpoints that are too many go,
7. models with too few endpoints get them, or room is made for one,
8. pipelines begin to become one worker, or several that serve alone,
9. weights of models that may be asked soon are fetched into host caches.

It costs what has changed; a sweep, each second, adds what time alone makes due (`scope`). The
simulator runs the same function on a virtual clock.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.scheduler.policy import decisions as d
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.planning.usable_cluster import NodeMemo
from services.scheduler.policy.rules.assignment import assign_queued
from services.scheduler.policy.rules.commands import carry_out_commands, hurry_starts
from services.scheduler.policy.rules.consolidations import (
    begin_consolidations,
    follow_consolidation,
    record_switch,
)
from services.scheduler.policy.rules.endpoints import reconcile_endpoint
from services.scheduler.policy.rules.pipelines import connect_stages, launch_fetched
from services.scheduler.policy.rules.prefetches import (
    end_prefetches_of_started,
    follow_prefetches,
)
from services.scheduler.policy.rules.request_ends import (
    GatewayView,
    end_abandoned,
    end_of_crashed,
    end_of_failing_model,
    end_of_gone_model,
    perhaps_abandoned,
)
from services.scheduler.policy.rules.request_losses import count_losses
from services.scheduler.policy.rules.scale_down import scale_down
from services.scheduler.policy.rules.scale_ups import follow_scale_ups
from services.scheduler.policy.rules.starts import start_missing
from services.scheduler.policy.scope.round_scope import (
    Scope,
    scope_of,
    state_after,
    waiting_models,
)
from services.scheduler.policy.snapshot import Snapshot


@dataclass(frozen=True)
class Decided:
    """`snapshot`: once all decisions are carried out. `has_unreached`: the budget for planning did
    not reach every model that waits."""

    decisions: tuple[d.Decision, ...]
    snapshot: Snapshot
    has_unreached: bool

    @property
    def is_unfinished(self) -> bool:
        """The next round shall follow at once: there is more to decide."""
        has_begun = any(isinstance(decision, d.StartEndpoint) for decision in self.decisions)
        return self.has_unreached or has_begun


def decide(snapshot: Snapshot, changed: Changed) -> tuple[d.Decision, ...]:
    """The decisions alone."""
    return decide_round(snapshot, changed, NodeMemo()).decisions


def decide_round(snapshot: Snapshot, changed: Changed, memo: NodeMemo) -> Decided:
    """`memo` only saves work: the decisions are the same with an empty one."""
    builder, scope = DecisionBuilder(snapshot), scope_of(snapshot, changed)
    if changed.is_sweep:
        view = GatewayView.of(snapshot)
        for model_id, ids in perhaps_abandoned(snapshot, view).items():
            builder.apply_rule(model_id, end_abandoned, ids, view)
    _for_each(builder, scope.waiting, end_of_gone_model)
    _for_each_endpoint(builder, scope.endpoints, record_switch)
    _for_each_endpoint(builder, scope.endpoints, reconcile_endpoint)
    _for_each_endpoint(builder, scope.endpoints, follow_consolidation)
    _for_each_endpoint(builder, scope.endpoints, follow_scale_ups)
    _for_each(builder, scope.models, count_losses)
    _for_each(builder, scope.models, end_of_crashed)
    _for_each(builder, scope.models, end_of_failing_model)
    _for_each_endpoint(builder, scope.endpoints, connect_stages)
    _for_each_endpoint(builder, scope.endpoints, launch_fetched)
    _for_each(builder, scope.models, assign_queued)
    _for_each(builder, scope.models, hurry_starts)
    if changed.is_sweep:
        carry_out_commands(builder)
        scale_down(builder, scope.models)
    has_unreached = _start(builder, changed, scope, memo)
    end_prefetches_of_started(builder)
    if changed.is_sweep:
        begin_consolidations(builder, memo)
        follow_prefetches(builder, memo)
    swept = state_after(builder.snapshot, changed, scope, builder.decisions)
    written = builder.snapshot.changed(swept=swept)
    return Decided(tuple(builder.decisions), written, has_unreached)


def _for_each(
    builder: DecisionBuilder,
    model_ids: Iterable[str],
    rule: Callable[[Snapshot, str], Iterable[d.Decision]],
) -> None:
    for model_id in model_ids:
        builder.apply_rule(model_id, rule, model_id)


def _for_each_endpoint(
    builder: DecisionBuilder,
    endpoint_ids: Iterable[str],
    rule: Callable[[Snapshot, Endpoint], Iterable[d.Decision]],
) -> None:
    for endpoint_id in endpoint_ids:
        endpoint = builder.snapshot.endpoints.get(endpoint_id)
        if endpoint is not None:
            builder.apply_rule(endpoint.model_id, rule, endpoint)


def _start(builder: DecisionBuilder, changed: Changed, scope: Scope, memo: NodeMemo) -> bool:
    """Room that has come free, and a node that is new, are for whoever waits longest: then all that
    wait are looked at, else nobody where nobody's wait has changed."""
    snapshot = builder.snapshot
    waiting = waiting_models(snapshot).union(snapshot.unasked, snapshot.traffic)
    has_heard = bool(changed.nodes or changed.spoke)
    is_anything_new = changed.is_sweep or changed.is_continued or has_heard
    if not is_anything_new and waiting.isdisjoint(scope.models):
        return False
    return start_missing(builder, waiting, memo)
