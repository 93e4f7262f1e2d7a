"""The planner as one would first write it: an offer for each device of the cluster, all of them
sorted. Slow, and plain enough to be right: what `planner.choose` answers must be the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest, nsmallest
from math import inf
from typing import NamedTuple, cast

from services.scheduler.policy.cluster import Deployable, Device
from services.scheduler.policy.nodes.node import UNCAPPED_BYTES_PER_S, Node
from services.scheduler.policy.planning.memory import file_bytes, files_bytes, full_bytes
from services.scheduler.policy.planning.model_shape import MAX_STAGES, ModelShape
from services.scheduler.policy.planning.offers import Offer, entry_rank, ready_s
from services.scheduler.policy.planning.pipelines import cut
from services.scheduler.policy.planning.planner import Choice
from services.scheduler.policy.planning.plans import NoRoom, Plan
from services.scheduler.policy.planning.search.candidates import Candidates
from services.scheduler.policy.planning.search.forecasts import (
    DeviceSet,
    PipelineShape,
    prediction_of,
)
from services.scheduler.policy.planning.search.plan_search import Option, Possible, best_of
from services.scheduler.policy.planning.search.verdicts import considered
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
    best = _best_choice(trusted, deployable, num_stages)
    if best is None and len(trusted) < len(offers):
        best = _best_choice(offers, deployable, num_stages)
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
        launch_s = offer.node.standby_launch_s if has_standby else device.launch_s
        return (
            offer.node.is_suspect,
            round(ready_s(fetch_s, launch_s, offer.node.tail_s) / SAME_S),
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


def _best_choice(offers: list[Surveyed], deployable: Deployable, num_stages: int) -> Choice | None:
    shape = ModelShape(deployable)
    candidates = PlainCandidates(offers, deployable, num_stages)
    found = [
        Option(PipelineShape(s, w), DeviceSet(chosen, shape), cast(Candidates, candidates))
        for s, w in _shapes(candidates, deployable, num_stages)
        for chosen in candidates.choose(s, w)
    ]
    least = min(deployable.model.min_pipeline_size, num_stages)
    long_enough = [option for option in found if option.shape.num_stages >= least]
    objective = deployable.objective
    best = best_of(long_enough, objective) or best_of(found, objective)
    if best is None:
        plan = _any_pipeline(offers, deployable, num_stages)
        if plan is None:
            return None
        best = Possible(plan, prediction_of(plan, shape))
    return Choice(best.plan, best.prediction, considered(found, best, deployable.objective))


def _shapes(
    candidates: "PlainCandidates", deployable: Deployable, num_stages: int
) -> list[tuple[int, int]]:
    objective, max_full = deployable.objective, candidates.max_full
    wanted = objective.num_endpoints if objective.can_consolidate else 1
    least = min(max(1, wanted), max_full, num_stages)
    most = max_full if objective.can_consolidate else least
    return [
        (s, w)
        for s in range(max(1, least), num_stages + 1)
        for w in range(least, min(s, most) + 1)
        if s > 1 or w
    ]


@dataclass
class PlainCandidates:
    """As `Candidates`, of lists that are sorted as a whole."""

    offers: list[Surveyed]
    deployable: Deployable
    num_stages: int
    num_cuts: int = 0

    @property
    def is_small(self) -> bool:
        return True  # as the clusters of these tests are

    @property
    def max_full(self) -> int:
        whole = _with_whole_room(self.offers, self.deployable)
        return len(self._full_parts) if self.num_stages > 1 else min(1, len(whole))

    @property
    def parts(self) -> list[Offer]:
        return _close_all(self._parts, self.deployable)

    @cached_property
    def _parts(self) -> list[Surveyed]:
        return sorted(best_per_node(self.offers), key=_place)

    def bound_s(self, num_stages: int) -> float:
        shape = ModelShape(self.deployable)
        rates = {offer.node.id: offer.rate_bytes_per_s for offer in self._parts}
        fastest = sorted(rates.values(), reverse=True)[:num_stages]
        held = {digest for own in self.deployable.cached.values() for digest in own}
        held &= {d for o in self._parts for d in self.deployable.cached.get(o.node.id, ())}
        missing = sum(size for digest, size in shape.sizes.items() if digest not in held)
        launches = [offer.launch_s(offer.node.num_standbys > 0) for offer in self.parts]
        return max(missing / sum(fastest) if missing else 0.0, min(launches))

    @property
    def _full_parts(self) -> list[Surveyed]:
        return _with_whole_room(self._parts, self.deployable)

    def choose(self, s: int, w: int) -> list[list[Offer]]:
        weight_bytes = self.deployable.summary.weight_bytes
        if s == 1:
            roomy = _with_whole_room(self.offers, self.deployable)
            first = soonest(roomy, 1, weight_bytes)
            return [_close_all(first, self.deployable)] if first else []
        full = soonest(self._full_parts, w, weight_bytes / s)
        if len(full) < w:
            return []
        taken = {offer.node.id for offer in full}
        low = [offer for offer in self._parts if offer.node.id not in taken]
        low = soonest(low, s - w, weight_bytes / s)
        siblings = self._crowding
        every = [o for o in _each_once([*self._parts, *siblings]) if o not in full]
        crowded = soonest(every, s - w, weight_bytes / s)
        found = [[*full, *low]] if len(low) == s - w else []
        if siblings and len(crowded) == s - w and crowded != low:
            found.append([*full, *crowded])
        if len(low) < s - w:
            others = [offer for offer in every if offer not in low]
            spread = [*low, *soonest(others, s - w - len(low), weight_bytes / s)]
            if len(spread) == s - w and {*map(_place, spread)} != {*map(_place, crowded)}:
                found.append([*full, *spread])
        return [self._entry_first(_close_all(one, self.deployable), w) for one in found]

    @property
    def whole_places(self) -> set[tuple[str, int]]:
        return {_place(offer) for offer in self._full_parts}

    def _entry_first(self, chosen: list[Offer], num_full: int) -> list[Offer]:
        able = [offer for offer in chosen if offer.place in self.whole_places]
        full = sorted(able, key=entry_rank(ModelShape(self.deployable)))[:num_full]
        return [*full, *(offer for offer in chosen if offer not in full)]

    @property
    def _crowding(self) -> list[Surveyed]:
        nodes = {offer.node.id for offer in self._parts}
        mains = {_place(offer) for offer in self._parts}
        found = (offer for offer in self.offers if offer.node.id in nodes)
        return [offer for offer in found if _place(offer) not in mains]

    def alternatives(self, chosen: Sequence[Offer], num_full: int) -> Iterator[list[Offer]]:
        taken, nodes = {offer.place for offer in chosen}, [offer.node.id for offer in chosen]
        by_node = {id_: [o for o in self.offers if o.node.id == id_] for id_ in nodes}
        siblings = [offer for own in by_node.values() for offer in own]
        every = _each_once([*self._parts, *siblings])
        others = [o for o in _close_all(every, self.deployable) if o.place not in taken]
        whole = {_place(offer) for offer in self._full_parts}
        for index in reversed(range(len(chosen))):
            for other in others:
                if index >= num_full or other.place in whole:
                    yield [*chosen[:index], other, *chosen[index + 1 :]]


def _place(offer: Surveyed) -> tuple[str, int]:
    return (offer.node.id, offer.device.index)


def _each_once(offers: Sequence[Surveyed]) -> list[Surveyed]:
    return list({_place(offer): offer for offer in offers}.values())


def _with_whole_room(offers: list[Surveyed], deployable: Deployable) -> list[Surveyed]:
    summary = deployable.summary
    needed = full_bytes(deployable.model, summary)
    return [
        offer
        for offer in offers
        if offer.free_bytes >= needed
        and (
            offer.cache_free_bytes >= files_bytes(summary)
            or offer.cache_free_bytes >= _files_needed(offer, deployable)
        )
    ]


def _files_needed(offer: Surveyed, deployable: Deployable) -> int:
    held = offer.node.held_units
    return sum(file_bytes(unit) for unit in deployable.summary.units if unit.digest not in held)


def _any_pipeline(offers: list[Surveyed], deployable: Deployable, num_stages: int) -> Plan | None:
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


def _close_all(chosen: list[Surveyed], deployable: Deployable) -> list[Offer]:
    return [_close(offer, deployable) for offer in chosen]


def _close(offer: Surveyed, deployable: Deployable) -> Offer:
    return Offer.of(offer.node, offer.device, ModelShape(deployable))
