"""Where a model's stages go. Pure: a decision from values, to be reserved by somebody else.

As many stages as the model allows, on different nodes, because each fetches its part at the same
time; one when a single node can compute just as soon, as after an earlier start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import pairwise

from libs.common.bus.messages import LayerRange, ModelSummary
from services.scheduler.policy.cluster import Cluster, Deployable, DeviceSize, Model
from services.scheduler.policy.planning.memory import files_bytes, full_bytes, kv_budget_bytes
from services.scheduler.policy.planning.offers import (
    SAME_S,
    Offer,
    as_places,
    best_per_node,
    cache_room,
    device_room,
    files_needed,
    in_stage_order,
    roomiest,
    scarcest_room,
    soonest,
    sorted_layers,
    survey,
)
from services.scheduler.policy.planning.plans import NoRoom, Plan, RejectedPlan, plan_stage
from services.scheduler.policy.planning.projected_cluster import empty_cluster
from services.scheduler.policy.planning.split import Split, Weights, split

MAX_STAGES = 8


@dataclass(frozen=True)
class Choice:
    """The plan to be carried out, and what else was looked at."""

    plan: Plan | NoRoom
    considered: tuple[RejectedPlan, ...] = ()


def plan(cluster: Cluster, deployable: Deployable, max_stages: int = MAX_STAGES) -> Plan | NoRoom:
    """The stages of the next endpoint, or what is missing."""
    return choose(cluster, deployable, max_stages).plan


def choose(cluster: Cluster, deployable: Deployable, max_stages: int = MAX_STAGES) -> Choice:
    """As `plan`, with the plans that lost.

    Nodes on which the model failed lately are used only where the others have no room.
    """
    needed = full_bytes(deployable.model, deployable.summary)
    dtype = deployable.summary.dtype
    free_bytes = [device.room_bytes for device in cluster.devices if device.computes(dtype)]
    num_stages = _num_stages(deployable.model, deployable.summary, max_stages)
    no_room = NoRoom(needed, max(free_bytes, default=0))
    if sum(nlargest(num_stages, free_bytes)) < needed:
        return Choice(no_room)  # at once: most questions of what could give way end here
    offers = survey(cluster, deployable)
    trusted = [offer for offer in offers if not offer.node.is_suspect]
    best = _best_plan(trusted, deployable, max_stages)
    if best is None and len(trusted) < len(offers):
        best = _best_plan(offers, deployable, max_stages)
    return Choice(no_room) if best is None else best


def fits_in(
    sizes: Sequence[DeviceSize], deployable: Deployable, max_stages: int = MAX_STAGES
) -> bool:
    """Whether these devices could hold the model if they were empty: the planner itself answers,
    so that nobody waits for a plan that will not come, or is refused one that would."""
    return isinstance(plan(empty_cluster(sizes), deployable, max_stages), Plan)


def _best_plan(offers: list[Offer], deployable: Deployable, max_stages: int) -> Choice | None:
    whole = _whole_model(offers, deployable)
    num_stages = _num_stages(deployable.model, deployable.summary, max_stages)
    if num_stages == 1 or (whole is not None and whole.start_s <= SAME_S):
        return None if whole is None else Choice(whole)
    pipeline = _pipeline(offers, deployable, num_stages)
    if whole is None or pipeline is None:
        only = whole or pipeline
        return None if only is None else Choice(only)
    if _is_as_soon(whole, pipeline):
        return Choice(whole, (_lost(pipeline, "one worker starts as soon"),))
    return Choice(pipeline, (_lost(whole, "it would start later"),))


def _lost(other: Plan, why_not: str) -> RejectedPlan:
    node_ids = tuple(stage.node_id for stage in other.stages)
    return RejectedPlan(len(other.stages), node_ids, other.start_s, other.fetch_s, why_not)


def _is_as_soon(whole: Plan, pipeline: Plan) -> bool:
    """Launches are predicted less well than fetches: where only a launch makes both start at the
    same time, the one that has its bytes first is the better."""
    return whole.start_s <= pipeline.start_s + SAME_S and whole.fetch_s <= pipeline.fetch_s + SAME_S


def _num_stages(model: Model, summary: ModelSummary, max_stages: int) -> int:
    """At most; stage 0 may do without layers, the others need one each."""
    return min(model.max_pipeline_size, max_stages, summary.num_layers + 1)


def _whole_model(offers: list[Offer], deployable: Deployable) -> Plan | None:
    summary = deployable.summary
    needed = full_bytes(deployable.model, summary)
    files = files_bytes(summary)
    roomy = [
        offer
        for offer in offers
        if offer.free_bytes >= needed
        and (
            offer.cache_free_bytes >= files
            or offer.cache_free_bytes >= files_needed(offer, summary.units)
        )
    ]
    best = soonest(roomy, 1, summary.weight_bytes)
    if not best:
        return None
    (offer,) = best
    fetch_s = (summary.weight_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
    layers = LayerRange(first_layer=0, last_layer=summary.num_layers)
    has_standby = offer.node.num_standbys > 0
    return Plan((plan_stage(offer, deployable, 0, layers, fetch_s, has_standby),))


def _pipeline(offers: list[Offer], deployable: Deployable, num_stages: int) -> Plan | None:
    """On the nodes that are soonest; on the emptiest ones when those have too little room; and
    on several devices of a node only when there are not enough nodes."""
    share_bytes = deployable.summary.weight_bytes / num_stages
    per_node = best_per_node(offers)
    found = _cut(soonest(per_node, num_stages, share_bytes), deployable)
    for choices in (per_node, offers):
        for room in (scarcest_room, device_room, cache_room):
            found = found or _cut(roomiest(choices, num_stages, room), deployable)
    return found


def _cut(chosen: list[Offer], deployable: Deployable) -> Plan | None:
    """In the order that suits what is cached; if that has no room, in one that has."""
    summary = deployable.summary
    if len(chosen) < 2 or sum(offer.free_bytes for offer in chosen) < full_bytes(
        deployable.model, summary
    ):
        return None
    weights = _weights(deployable.model, summary)
    for ordered in (in_stage_order(chosen, summary), *_orders(chosen)):
        found = split(weights, as_places(ordered, summary))
        if found is not None:
            return _as_plan(ordered, found, deployable)
    return None


def _orders(chosen: list[Offer]) -> Iterator[list[Offer]]:
    """Each of them once as stage 0, whose ends weigh so much that it may have to do without
    layers. Among the others the order only matters for layers of different sizes."""
    by_room = roomiest(chosen, len(chosen), scarcest_room)
    for index, first in enumerate(by_room):
        yield [first, *by_room[:index], *by_room[index + 1 :]]


def _as_plan(offers: list[Offer], found: Split, deployable: Deployable) -> Plan:
    """Without the stages that would have nothing to do. A standby process starts one stage."""
    stages = []
    standbys = {offer.node.id: offer.node.num_standbys for offer in offers}
    cuts = zip(offers, pairwise(found.bounds), found.fetch_s, strict=True)
    for index, (offer, (start, end), fetch_s) in enumerate(cuts):
        if index == 0 or end > start:
            layers = LayerRange(first_layer=start, last_layer=end)
            has_standby = standbys[offer.node.id] > 0
            standbys[offer.node.id] -= has_standby
            stages.append(plan_stage(offer, deployable, index, layers, fetch_s, has_standby))
    return Plan(tuple(stages))


def _weights(model: Model, summary: ModelSummary) -> Weights:
    sizes = [unit.size_bytes for unit in sorted_layers(summary)]
    return Weights(sizes, _end_bytes(summary), kv_budget_bytes(model, summary))


def _end_bytes(summary: ModelSummary) -> int:
    return sum(unit.size_bytes for unit in summary.units if unit.layer is None)
