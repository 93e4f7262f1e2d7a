"""The planner as one would first write it: an offer for each device of the cluster, all of them
sorted. Slow, and plain enough to be right: what `planner.choose` answers must be the same."""

from collections.abc import Callable, Sequence
from heapq import nlargest, nsmallest
from math import inf
from typing import NamedTuple

from libs.common.bus.messages import LayerRange
from services.scheduler.policy.cluster import Deployable, Device
from services.scheduler.policy.nodes.node import UNCAPPED_BYTES_PER_S, Node
from services.scheduler.policy.planning.memory import file_bytes, files_bytes, full_bytes
from services.scheduler.policy.planning.model_shape import MAX_STAGES, ModelShape
from services.scheduler.policy.planning.offers import Offer, ready_s
from services.scheduler.policy.planning.pipelines import cut
from services.scheduler.policy.planning.planner import Choice
from services.scheduler.policy.planning.plans import NoRoom, Plan, RejectedPlan, plan_stage
from services.scheduler.policy.planning.survey import SAME_S


class Surveyed(NamedTuple):
    node: Node
    device: Device
    free_bytes: int
    rate_bytes_per_s: float
    cached_bytes: int
    cache_free_bytes: float
    room_bytes: float


Rank = tuple[bool, int, bool, float, float, str, int]
Room = Callable[[Surveyed], float]


def choose(nodes: Sequence[Node], deployable: Deployable) -> Choice:
    model, summary = deployable.model, deployable.summary
    needed = full_bytes(model, summary)
    devices = [device for node in nodes for device in node.devices]
    free_bytes = [device.room_bytes for device in devices if device.computes(summary.dtype)]
    num_stages = min(model.max_pipeline_size, MAX_STAGES, summary.num_layers + 1)
    no_room = NoRoom(needed, max(free_bytes, default=0))
    if sum(nlargest(num_stages, free_bytes)) < needed:
        return Choice(no_room)
    offers = survey(nodes, deployable)
    trusted = [offer for offer in offers if not offer.node.is_suspect]
    best = _best_plan(trusted, deployable, num_stages)
    if best is None and len(trusted) < len(offers):
        best = _best_plan(offers, deployable, num_stages)
    return Choice(no_room) if best is None else best


def survey(nodes: Sequence[Node], deployable: Deployable) -> list[Surveyed]:
    sizes = {unit.digest: unit.size_bytes for unit in deployable.summary.units}
    offers = []
    for node in nodes:
        rate = (node.nic_bytes_per_s or UNCAPPED_BYTES_PER_S) / (node.num_fetches + 1)
        cached = sum(sizes[digest] for digest in deployable.cached.get(node.id, ()))
        cache_free = inf if node.cache_bytes is None else node.cache_bytes - node.held_bytes
        for device in node.devices:
            free = device.room_bytes
            if free <= 0 or not device.computes(deployable.summary.dtype):
                continue
            room = free if free < cache_free else cache_free
            offers.append(Surveyed(node, device, free, rate, cached, cache_free, room))
    return offers


def best_per_node(offers: Sequence[Surveyed]) -> list[Surveyed]:
    best: dict[str, Surveyed] = {}
    for offer in offers:
        known = best.get(offer.node.id)
        if known is None or offer.free_bytes > known.free_bytes:
            best[offer.node.id] = offer
    return list(best.values())


def soonest(offers: Sequence[Surveyed], count: int, share_bytes: float) -> list[Surveyed]:
    def rank(offer: Surveyed) -> Rank:
        fetch_s = max(0.0, share_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
        has_standby = offer.node.num_standbys > 0
        device = offer.device
        launch_s = 0.0 if has_standby else device.launch_s
        return (
            offer.node.is_suspect,
            round(ready_s(fetch_s, launch_s) / SAME_S),
            not has_standby,
            fetch_s,
            -offer.room_bytes,
            device.node_id,
            device.index,
        )

    return nsmallest(count, offers, key=rank)


def roomiest(offers: Sequence[Surveyed], count: int, room: Room) -> list[Surveyed]:
    def rank(offer: Surveyed) -> tuple[bool, float, str, int]:
        device = offer.device
        return (offer.node.is_suspect, -room(offer), device.node_id, device.index)

    return nsmallest(count, offers, key=rank)


def _best_plan(offers: list[Surveyed], deployable: Deployable, num_stages: int) -> Choice | None:
    whole = _whole_model(offers, deployable)
    if num_stages == 1 or (whole is not None and whole.start_s <= SAME_S):
        return None if whole is None else Choice(whole)
    pipeline = _pipeline(offers, deployable, num_stages)
    if whole is None or pipeline is None:
        only = whole or pipeline
        return None if only is None else Choice(only)
    is_as_soon = (
        whole.start_s <= pipeline.start_s + SAME_S and whole.fetch_s <= pipeline.fetch_s + SAME_S
    )
    if is_as_soon:
        return Choice(whole, (_lost(pipeline, "one worker starts as soon"),))
    return Choice(pipeline, (_lost(whole, "it would start later"),))


def _lost(other: Plan, why_not: str) -> RejectedPlan:
    node_ids = tuple(stage.node_id for stage in other.stages)
    return RejectedPlan(len(other.stages), node_ids, other.start_s, other.fetch_s, why_not)


def _whole_model(offers: list[Surveyed], deployable: Deployable) -> Plan | None:
    summary = deployable.summary
    needed = full_bytes(deployable.model, summary)
    roomy = [
        offer
        for offer in offers
        if offer.free_bytes >= needed
        and (
            offer.cache_free_bytes >= files_bytes(summary)
            or offer.cache_free_bytes >= _files_needed(offer, deployable)
        )
    ]
    best = soonest(roomy, 1, summary.weight_bytes)
    if not best:
        return None
    (offer,) = best
    fetch_s = (summary.weight_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
    layers = LayerRange(first_layer=0, last_layer=summary.num_layers)
    has_standby = offer.node.num_standbys > 0
    return Plan(
        (plan_stage(_close(offer, deployable), deployable, 0, layers, fetch_s, has_standby),)
    )


def _files_needed(offer: Surveyed, deployable: Deployable) -> int:
    held = offer.node.held_units
    return sum(file_bytes(unit) for unit in deployable.summary.units if unit.digest not in held)


def _pipeline(offers: list[Surveyed], deployable: Deployable, num_stages: int) -> Plan | None:
    share_bytes = deployable.summary.weight_bytes / num_stages
    per_node = best_per_node(offers)
    found = _cut(soonest(per_node, num_stages, share_bytes), deployable)
    rooms: list[Room] = [
        lambda offer: offer.room_bytes,
        lambda offer: offer.free_bytes,
        lambda offer: offer.cache_free_bytes,
    ]
    for choices in (per_node, offers):
        for room in rooms:
            found = found or _cut(roomiest(choices, num_stages, room), deployable)
    return found


def _cut(chosen: list[Surveyed], deployable: Deployable) -> Plan | None:
    shape = ModelShape(deployable)
    return cut([_close(offer, deployable) for offer in chosen], shape)


def _close(offer: Surveyed, deployable: Deployable) -> Offer:
    return Offer.of(offer.node, offer.device, ModelShape(deployable))
