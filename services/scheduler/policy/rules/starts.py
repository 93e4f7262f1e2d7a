"""Starts endpoints for models that have too few, and makes room where there is none. Pure.

Tenants take turns (`start_order.py`). Room that is being made for one model is not given to those
behind it, who may take what else there is.
"""

from collections.abc import Collection, Iterator
from itertools import takewhile

from libs.common.causes import Cause, CauseKind
from libs.common.ids import derived_id
from libs.common.reasons import Reason
from libs.common.states import StartPurpose
from services.scheduler.policy import decisions as d
from services.scheduler.policy import refusals
from services.scheduler.policy.cluster import Deployable, Endpoint
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.network.known_rates import KnownRates
from services.scheduler.policy.network.start_admission import fetch_deadline_s
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.plans import NoRoom, Plan
from services.scheduler.policy.planning.round_room import RoundRoom
from services.scheduler.policy.planning.usable_cluster import NodeMemo, usable_cluster
from services.scheduler.policy.prediction.contention import waits_for_others
from services.scheduler.policy.rules.request_ends import refuse
from services.scheduler.policy.rules.start_candidates import (
    in_start_order,
    in_start_order_again,
    purpose_of_next,
)
from services.scheduler.policy.snapshot import Snapshot

# Nobody gives way to these, who may never be asked.
AT_NO_COST = (StartPurpose.AHEAD, StartPurpose.LOAD)


def start_missing(builder: DecisionBuilder, candidates: Collection[str], memo: NodeMemo) -> bool:
    """What the models need; whether some were not reached.

    Planning has a budget, so that a round ends in good time; the next one goes on from there.
    """
    snapshot = builder.snapshot
    order = in_start_order(builder, candidates)
    queue = snapshot.queue.keep_only(order)
    builder.snapshot = builder.snapshot.changed(queue=queue)
    if not order:
        return False
    room = RoundRoom(
        builder.snapshot,
        usable_cluster(snapshot, memo),
        memo.known_devices,
        memo.network.network(snapshot, snapshot.fetch_deadlines_s, _rates(snapshot)),
    )
    broken = {**memo.network.broken, **memo.broken}
    builder.add(d.SkipNode("", node_id, error) for node_id, error in broken.items())
    place_of = {model_id: place for place, model_id in enumerate(order)}
    reached, num_decisions = list[str](), len(builder.decisions)
    budget = snapshot.limits.planning_budget_devices
    for model_id in takewhile(snapshot.knows_cached, queue.next_up(room.has_room_for)):
        if room.cost.num_devices >= budget:
            break
        if model_id in queue.reached and room.cost.num_devices >= budget / 2:
            continue  # the rest is for those whom this pass has not reached
        reached.append(model_id)
        room.cost.add_model()
        room.pass_to(builder.snapshot.queue, place_of[model_id])
        builder.apply_rule(model_id, _start, model_id, room)
    _start_others(builder, num_decisions, len(order), room)
    queue = builder.snapshot.queue.has_reached(reached)
    builder.snapshot = builder.snapshot.changed(queue=queue.end_pass())
    return not queue.is_all_reached


def _rates(snapshot: Snapshot) -> KnownRates:
    return KnownRates(snapshot.measured, snapshot.limits.store_egress_bytes_per_s or None)


def _start_others(builder: DecisionBuilder, since: int, num_in_queue: int, room: RoundRoom) -> None:
    """A burst starts its whole set at once: once each model in turn has had one, those that need
    more get another, and again; of what nobody claims, and while the budget lasts. `since`: how
    many decisions there were before the first one began."""
    room.pass_to(builder.snapshot.queue, num_in_queue)
    begun = _begun(builder, since)
    while begun:
        since = len(builder.decisions)
        for model_id in in_start_order_again(builder, begun):
            if room.cost.num_devices >= builder.snapshot.limits.planning_budget_devices:
                return
            builder.apply_rule(model_id, _start_another, model_id, room)
        begun = _begun(builder, since)


def _begun(builder: DecisionBuilder, since: int) -> list[str]:
    new = builder.decisions[since:]
    return [decision.model_id for decision in new if isinstance(decision, d.StartEndpoint)]


def _start_another(snapshot: Snapshot, model_id: str, room: RoundRoom) -> Iterator[d.Decision]:
    """If there is room. If not, the next round makes some: it follows at once."""
    deployable = snapshot.deployable(snapshot.models[model_id])
    if deployable is None:
        return
    purpose = _purpose(snapshot, deployable)
    choice = room.choose(snapshot, deployable, is_asked=purpose is StartPurpose.REQUEST)
    if choice is None or not isinstance(choice.plan, Plan):
        return
    if _waits_for_others(snapshot, deployable, choice, purpose):
        return
    if not _must_rest(snapshot, model_id, choice.plan):
        begun = _start_of(snapshot, deployable, choice.plan, choice, purpose)
        room.start(choice.plan, begun.endpoint_id, begun.fetch_deadline_s)
        yield begun


def _start(snapshot: Snapshot, model_id: str, room: RoundRoom) -> Iterator[d.Decision]:
    """Begin, unless faulty nodes must rest; or claim what the model takes once there is room."""
    deployable = snapshot.deployable(snapshot.models[model_id])
    if deployable is None:
        yield d.Wait(model_id, "its manifest is not known yet")
        return
    purpose = _purpose(snapshot, deployable)
    choice = room.choose(snapshot, deployable, is_asked=purpose is StartPurpose.REQUEST)
    if choice is None:
        yield d.ClaimRoom(model_id, None)
        why = "its fetches would make other starts miss their targets wherever there is room"
        yield d.Wait(model_id, why, Reason.CLUSTER_FULL)
        return
    if isinstance(choice.plan, NoRoom):
        if purpose not in AT_NO_COST:
            yield from _make_room(snapshot, deployable, room)
        elif model_id in snapshot.queue.claims:
            yield d.ClaimRoom(model_id, None)  # of somebody who waited, and does no more
        return
    yield d.ClaimRoom(model_id, None)
    if _waits_for_others(snapshot, deployable, choice, purpose):
        why = "others compute where there is room, and each token would take too long"
        yield d.Wait(model_id, why, Reason.CLUSTER_FULL)
        return
    if _must_rest(snapshot, model_id, choice.plan):
        node_ids = {stage.node_id for stage in choice.plan.stages}
        why = f"starts on {', '.join(sorted(node_ids))} failed a moment ago"
        yield d.Wait(model_id, why, Reason.NODE_FAULT)
        return
    begun = _start_of(snapshot, deployable, choice.plan, choice, purpose)
    room.start(choice.plan, begun.endpoint_id, begun.fetch_deadline_s)
    yield begun


def _purpose(snapshot: Snapshot, deployable: Deployable) -> StartPurpose:
    """A request, or else nobody waits for it, and its fetches are in the background."""
    return purpose_of_next(snapshot, deployable.model) or StartPurpose.REQUEST


def _waits_for_others(
    snapshot: Snapshot, deployable: Deployable, choice: planner.Choice, purpose: StartPurpose
) -> bool:
    """Only what somebody waits for has a first token that could be late."""
    if purpose is not StartPurpose.REQUEST or not snapshot.mode.has_admission:
        return False
    if choice.prediction is None:
        return False
    longest_s = snapshot.limits.longest_wait_for_others_s
    return waits_for_others(choice.prediction, deployable.objective, longest_s)


def _must_rest(snapshot: Snapshot, model_id: str, plan: Plan) -> bool:
    series = snapshot.node_faults.get(model_id)
    node_ids = {stage.node_id for stage in plan.stages}
    return series is not None and series.must_wait(node_ids, snapshot.now_s)


def _start_of(
    snapshot: Snapshot,
    deployable: Deployable,
    plan: Plan,
    choice: planner.Choice,
    purpose: StartPurpose,
) -> d.StartEndpoint:
    model_id, prediction = deployable.model.id, choice.prediction
    number = snapshot.endpoints.count("model", model_id)  # a round may start several

    def derived(kind: str, index: int = 0) -> str:
        return derived_id(kind, snapshot.nonce, f"{model_id}/{number}/{index}")

    waiting = (*snapshot.queued(model_id)[:1], *snapshot.orphans(model_id))
    first = min(waiting, key=lambda request: (request.arrived_at_s, request.id), default=None)
    return d.StartEndpoint(
        model_id,
        endpoint_id=derived("endpoint"),
        cold_start_id=derived("start"),
        workers=tuple(
            d.PlannedWorker(derived("worker", i), derived("fetch", i))
            for i in range(len(plan.stages))
        ),
        plan=plan,
        prediction=prediction,
        considered=choice.considered,
        request_id=None if first is None else first.id,
        fetch_deadline_s=None
        if prediction is None or purpose is not StartPurpose.REQUEST
        else fetch_deadline_s(plan, prediction, deployable.objective, snapshot.now_s),
        purpose=purpose,
    )


def _make_room(snapshot: Snapshot, deployable: Deployable, room: RoundRoom) -> Iterator[d.Decision]:
    """What will fit when those who are asked to go are gone. Nothing is concluded while this leader
    may not have heard every node."""
    model = deployable.model
    if not snapshot.knows_all_nodes:
        yield d.Wait(model.id, "not every node has had the time to be heard")
        return
    missing = room.shortage(deployable)
    if missing is not None:
        yield from refuse(snapshot.queued(model.id), refusals.of_shortage(missing))
        return
    yield _wait_for_room(deployable, room)
    found = room.reclaim(snapshot, deployable)
    for victim in () if found is None else found.victims:
        yield _going(victim, f"gives way to model {model.name}")
    yield _claim(snapshot, deployable, room, None if found is None else found.plan)


def _going(victim: Endpoint, why: str) -> d.Decision:
    if victim.state.is_serving:
        return d.DrainEndpoint(victim.model_id, victim.id, why)
    return d.StopWorkers(victim.model_id, victim.id, Cause(CauseKind.NOBODY_WAITED))


def _claim(
    snapshot: Snapshot, deployable: Deployable, room: RoundRoom, plan: Plan | None
) -> d.ClaimRoom:
    """What comes free is claimed where it will do; else it goes to those behind, who may be small
    and many: from one model that waits for long it is kept, also while more is missing."""
    model_id = deployable.model.id
    waited_s = snapshot.now_s - snapshot.demand(model_id).arrived_at_s
    may_wait = waited_s < snapshot.limits.claim_after_s
    if plan is not None or may_wait or not snapshot.queue.may_hold(model_id):
        return d.ClaimRoom(model_id, plan)
    return d.ClaimRoom(model_id, room.outlast(snapshot, deployable), is_held=True)


def _wait_for_room(deployable: Deployable, room: RoundRoom) -> d.Wait:
    """For other models to end; or for nodes, if those that can be used now would not suffice even
    empty: others are silent, or somebody has filled their shared memory."""
    lacking = room.usable_shortage(deployable)
    if lacking is None and room.usable.num_devices:
        return d.Wait(deployable.model.id, "others have the room", Reason.CLUSTER_FULL)
    why = lacking or "no node can be used"
    return d.Wait(deployable.model.id, why, Reason.NODE_FAULT)
