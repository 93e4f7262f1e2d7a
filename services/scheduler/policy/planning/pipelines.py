"""A pipeline on devices that were chosen: their order, the split, and the plan. Pure."""

from collections.abc import Iterator
from itertools import pairwise

from libs.common.bus.messages import LayerRange
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer, as_places, by_room, in_stage_order
from services.scheduler.policy.planning.plans import Plan, plan_stage
from services.scheduler.policy.planning.split import Split, split
from services.scheduler.policy.planning.survey import Room, Survey


def pipeline(survey: Survey, is_trusting: bool) -> Plan | None:
    """On the nodes that are soonest; on the emptiest ones when those have too little room; and
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
    per_node = survey.best_of_nodes(places)
    yield survey.soonest(per_node, shape.num_stages, share_bytes)
    for choices in (per_node, places):
        for room in Room:
            yield survey.roomiest(choices, shape.num_stages, room)


def cut(chosen: list[Offer], shape: ModelShape) -> Plan | None:
    """In the order that suits what is cached; if that has no room, in one that has. The order in
    which they were chosen does not matter."""
    if len(chosen) < 2 or sum(offer.free_bytes for offer in chosen) < shape.needed_bytes:
        return None
    for ordered in (in_stage_order(chosen, shape), *_orders(chosen)):
        found = split(shape.weights, as_places(ordered, shape))
        if found is not None:
            return _as_plan(ordered, found, shape)
    return None


def _orders(chosen: list[Offer]) -> Iterator[list[Offer]]:
    """Each of them once as stage 0, whose ends weigh so much that it may have to do without
    layers. Among the others the order only matters for layers of different sizes."""
    roomiest = by_room(chosen)
    for index, first in enumerate(roomiest):
        yield [first, *roomiest[:index], *roomiest[index + 1 :]]


def _as_plan(offers: list[Offer], found: Split, shape: ModelShape) -> Plan:
    """Without the stages that would have nothing to do. A standby process starts one stage."""
    stages = []
    standbys = {offer.node.id: offer.node.num_standbys for offer in offers}
    cuts = zip(offers, pairwise(found.bounds), found.fetch_s, strict=True)
    for index, (offer, (start, end), fetch_s) in enumerate(cuts):
        if index == 0 or end > start:
            layers = LayerRange(first_layer=start, last_layer=end)
            has_standby = standbys[offer.node.id] > 0
            standbys[offer.node.id] -= has_standby
            stages.append(plan_stage(offer, shape.deployable, index, layers, fetch_s, has_standby))
    return Plan(tuple(stages))
