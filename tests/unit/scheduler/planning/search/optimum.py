"""The best plan of a small cluster, by trying all of them: an oracle for the planner's search."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from math import inf

from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.nodes.node import Node
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer, files_needed
from services.scheduler.policy.planning.pipelines import cut_in_order
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.search.forecasts import prediction_of
from services.scheduler.policy.planning.search.plan_search import Possible, meets
from services.scheduler.policy.planning.search.whole_model import whole_model
from services.scheduler.policy.planning.survey import SAME_S


def optimum(nodes: Sequence[Node], deployable: Deployable) -> Possible | None:
    """The cheapest that meets both targets, or else the one with the least time per token of those
    that meet the one for the first, or else the soonest; None where nothing fits."""
    shape, objective = ModelShape(deployable), deployable.objective
    possible = [Possible(plan, prediction_of(plan, shape)) for plan in _plans(nodes, shape)]
    meeting = [one for one in possible if meets(one.prediction, objective)]
    if meeting:
        return min(meeting, key=lambda one: one.prediction.cost_byte_s)
    in_time = [one for one in possible if meets(one.prediction, replace(objective, tpot_s=inf))]
    if in_time:
        return min(in_time, key=lambda x: (x.prediction.tpot_s, x.prediction.cost_byte_s))
    return min(possible, key=lambda one: one.prediction.ttft_s, default=None)


def is_as_soon(found: Possible, best: Possible) -> bool:
    return found.prediction.ttft_s <= best.prediction.ttft_s + SAME_S


def _plans(nodes: Sequence[Node], shape: ModelShape) -> Iterator[Plan]:
    """With a full-memory worker wherever one has room, as the planner promises."""
    dtype = shape.deployable.summary.dtype
    offers = [
        Offer.of(node, device, shape)
        for node in nodes
        for device in node.devices
        if device.room_bytes and device.computes(dtype)
    ]
    whole = [offer for offer in offers if has_whole_room(offer, shape)]
    if shape.min_stages == 1:
        yield from (whole_model(offer, shape) for offer in whole)
    for count in range(max(2, shape.min_stages), shape.num_stages + 1):
        for chosen in combinations(offers, count):
            if sum(offer.free_bytes for offer in chosen) >= shape.needed_bytes:
                yield from _pipelines(chosen, shape, has_whole=bool(whole))


def _pipelines(chosen: Sequence[Offer], shape: ModelShape, *, has_whole: bool) -> Iterator[Plan]:
    for ordered in permutations(chosen):
        entry = ordered[0]
        if has_whole and not has_whole_room(entry, shape):
            continue
        plan = cut_in_order(ordered, shape, {entry.place} if has_whole else ())
        if plan is not None:
            yield plan


def has_whole_room(offer: Offer, shape: ModelShape) -> bool:
    units = shape.deployable.summary.units
    return offer.free_bytes >= shape.needed_bytes and (
        offer.cache_free_bytes >= shape.files_bytes
        or offer.cache_free_bytes >= files_needed(offer.node, units, shape)
    )
