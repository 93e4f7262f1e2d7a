"""A pipeline on devices that were chosen: their order, the split, and the plan. Pure."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from libs.common.bus.messages import LayerRange
from libs.common.states import MemberMemory
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer, as_places, by_room, in_stage_order
from services.scheduler.policy.planning.plans import Plan, plan_stage
from services.scheduler.policy.planning.split import split
from services.scheduler.policy.planning.survey import Room, Survey


def any_pipeline(survey: Survey, is_trusting: bool) -> Plan | None:
    """Of as many stages as the model may have, without memory for more: if any plan exists, this
    does. On the nodes that are soonest; on the emptiest ones when those have too little room; and
    on several devices of a node only when there are not enough nodes."""
    tried: set[frozenset[tuple[str, int]]] = set()
    for chosen in _choices(survey, is_trusting):
        places = frozenset(offer.place for offer in chosen)
        if places not in tried:
            tried.add(places)
            found = cut(chosen, survey.shape)
            if found is not None:
                return found
    return None


def _choices(survey: Survey, is_trusting: bool) -> Iterator[list[Offer]]:
    shape = survey.shape
    share_bytes = shape.deployable.summary.weight_bytes / shape.num_stages
    places = survey.all_places if is_trusting else survey.trusted_places
    per_node = survey.all_mains if is_trusting else survey.trusted_mains
    yield survey.soonest(per_node, shape.num_stages, share_bytes)
    for choices in (per_node, places):
        for room in Room:
            yield survey.roomiest(choices, shape.num_stages, room)


def cut(chosen: Sequence[Offer], shape: ModelShape, num_full: int = 0) -> Plan | None:
    """In the order that suits what is cached; if that has no room, in one that has.

    The first `num_full` of the chosen have memory for the whole model; one of them becomes the
    entry, which the pipeline is consolidated on. Else the order of the chosen does not matter.
    """
    if len(chosen) < 2 or sum(offer.free_bytes for offer in chosen) < shape.needed_bytes:
        return None
    full = {offer.place for offer in chosen[:num_full]}
    entries = chosen[:num_full] or chosen
    orders = (in_stage_order(chosen, shape, entries), *_orders(chosen, entries))
    plans = (cut_in_order(ordered, shape, full) for ordered in orders)
    return next((plan for plan in plans if plan is not None), None)


def cut_in_order(
    ordered: Sequence[Offer], shape: ModelShape, full: Collection[tuple[str, int]]
) -> Plan | None:
    """Stage i on the i-th of these; `full`: places of workers with memory for the whole model."""
    places = as_places(ordered, shape)
    found = split(shape.weights, places)
    if found is not None and found.num_busy < shape.min_stages:
        # A node that is slow after its last byte, or has nothing of what others have in their host
        # caches, was left out, though its stage is wanted.
        plain = [replace(place, tail_s=0.0) for place in places]
        found = split(shape.weights, plain, min(shape.min_stages, len(places))) or found
    if found is None:
        return None
    rates = [place.rate_bytes_per_s for place in places]
    return _as_plan(ordered, rates, found.bounds, shape, full)


def _orders(chosen: Sequence[Offer], entries: Sequence[Offer]) -> Iterator[list[Offer]]:
    """Each entry once as stage 0, whose ends weigh so much that it may have to do without layers.
    Among the others the order only matters for layers of different sizes."""
    roomiest = by_room(chosen)
    for first in by_room(entries):
        yield [first, *(offer for offer in roomiest if offer.place != first.place)]


def _as_plan(
    offers: Sequence[Offer],
    rates_bytes_per_s: list[float],
    bounds: Sequence[int],
    shape: ModelShape,
    full: Collection[tuple[str, int]],
) -> Plan:
    """Without the stages that would have nothing to do. A standby process starts one stage."""
    stages = []
    standbys = {offer.node.id: offer.node.num_standbys for offer in offers}
    cuts = zip(offers, pairwise(bounds), rates_bytes_per_s, strict=True)
    for index, (offer, (start, end), rate) in enumerate(cuts):
        if index == 0 or end > start:
            layers = LayerRange(first_layer=start, last_layer=end)
            has_standby = standbys[offer.node.id] > 0
            standbys[offer.node.id] -= has_standby
            memory = MemberMemory.FULL if offer.place in full else MemberMemory.LOW
            stages.append(
                plan_stage(offer, shape.deployable, index, layers, rate, has_standby, memory)
            )
    return Plan(tuple(stages))
