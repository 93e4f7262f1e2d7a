"""Which devices a plan of so many stages would be made of. Pure.

Of thousands of devices a few are looked at closely: those that would be ready first with the whole
model, or with a part of it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from services.scheduler.policy.cluster import Device
from services.scheduler.policy.nodes.columns import Ints
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning.offers import EntryRank, Offer, entry_rank, ready_s
from services.scheduler.policy.planning.survey import SAME_S, Survey

FEW_DEVICES = 64

Rank = tuple[bool, int, bool, float, float, str, int]


@dataclass(eq=False)
class Candidates:
    survey: Survey
    is_trusting: bool  # also nodes on which the model failed lately
    num_cuts: int = 0  # that were made of them
    _ranked: dict[int, list[Offer]] = field(default_factory=dict)
    _entry_ranks: dict[tuple[str, int], EntryRank] = field(default_factory=dict)  # by place

    def choose(self, num_stages: int, num_full: int) -> Iterator[list[Offer]]:
        """On nodes of their own, those of full-memory workers first; with several devices of a
        node, where that makes a difference; and on devices on which nobody computes, where others
        do on those that are ready first."""
        if num_stages == 1:
            yield from [[offer] for offer in (*self.whole[:1], *self._undisturbed)]
            return
        ranked = self._ranked_for(num_stages)
        chosen = list(self._chosen_of(ranked, num_stages, num_full))
        yield from chosen
        if any(self._is_busy(offer, num_stages) for offers in chosen for offer in offers):
            idle = [offer for offer in ranked if not self._is_busy(offer, num_stages)]
            yield from self._chosen_of(idle, num_stages, num_full)

    def _is_busy(self, offer: Offer, num_stages: int) -> bool:
        """Others compute there, and it matters how long a token takes."""
        if self.survey.shape.deployable.objective.tpot_s == inf:
            return False
        return offer.compute_share(self.survey.shape.needed_bytes / num_stages) < 1.0

    def _chosen_of(
        self, ranked: Sequence[Offer], num_stages: int, num_full: int
    ) -> Iterator[list[Offer]]:
        whole = self.whole_places
        full = [offer for offer in ranked if offer.place in whole][:num_full]
        if len(full) < num_full:
            return
        taken, num_low = {offer.node.id for offer in full}, num_stages - num_full
        mains = self._mains
        low = [o for o in ranked if o.place in mains and o.node.id not in taken][:num_low]
        if len(low) == num_low:
            yield self._entry_first([*full, *low], num_full)
        crowded = [offer for offer in ranked if offer not in full][:num_low]
        if self._crowding and len(crowded) == num_low and crowded != low:
            yield self._entry_first([*full, *crowded], num_full)
        # Too few nodes for a stage on each: all of them, and then what comes first.
        spread = [*low, *(offer for offer in ranked if offer not in [*full, *low])][:num_low]
        if len(low) < len(spread) == num_low and set(spread) != set(crowded):
            yield self._entry_first([*full, *spread], num_full)

    def _entry_first(self, chosen: list[Offer], num_full: int) -> list[Offer]:
        """Of those with room for the whole model, the ones that suit best as entries have it."""
        able = [offer for offer in chosen if offer.place in self.whole_places]
        full = sorted(able, key=self._entry_rank)[:num_full]
        return [*full, *(offer for offer in chosen if offer not in full)]

    def alternatives(self, chosen: Sequence[Offer], num_full: int) -> Iterator[list[Offer]]:
        """The same devices but for one: on another node, or another device of a node that is in use
        already."""
        taken, whole = {offer.place for offer in chosen}, self.whole_places
        others = [o for o in (*self.parts, *self._siblings(chosen)) if o.place not in taken]
        for index in reversed(range(len(chosen))):
            for other in others:
                if index >= num_full or other.place in whole:
                    yield [*chosen[:index], other, *chosen[index + 1 :]]

    @property
    def is_small(self) -> bool:
        """A cluster in which each device may matter."""
        return self.survey.cluster.num_devices <= FEW_DEVICES

    def bound_s(self, num_stages: int) -> float:
        """No plan of so many stages is ready sooner, whichever of the parts it is made of."""
        nodes = [offer.node for offer in self._ranked_for(num_stages)]
        rates = sorted({n.id: n.rate_bytes_per_s for n in nodes}.values(), reverse=True)
        held = frozenset[str]().union(*(offer.cached for offer in self.parts))
        sizes = self.survey.shape.sizes
        missing_bytes = sum(size for digest, size in sizes.items() if digest not in held)
        fetch_s = missing_bytes / sum(rates[:num_stages]) if missing_bytes else 0.0
        launches_s = (offer.launch_s(offer.node.num_standbys > 0) for offer in self.parts)
        return max(fetch_s, min(launches_s))

    @property
    def max_full(self) -> int:
        """Full-memory workers that have room, on nodes of their own."""
        return len(self.whole_places) if self._num_stages > 1 else len(self.whole[:1])

    @cached_property
    def whole(self) -> list[Offer]:
        """Where the whole model would be ready first; or where most of it is, if that is
        wanted."""
        mains = self._whole_of_mains
        found = self.survey.soonest_whole(mains, self._num_stages) if len(mains) else []
        if not self.survey.shape.deployable.objective.prefers_cached_copies:
            return found
        places = self.survey.with_whole_room_in(mains)
        return self.survey.offers(self.survey.holding_most(places)) or found

    @cached_property
    def _undisturbed(self) -> list[Offer]:
        """Where others compute on the device that is ready first: the one that is it of those that
        are idle, where tokens may be in time though the first one comes later."""
        prefers_cached = self.survey.shape.deployable.objective.prefers_cached_copies
        if prefers_cached or not self.whole or not self._is_busy(self.whole[0], 1):
            return []
        found = self.survey.soonest_whole(self._whole_of_mains, FEW_DEVICES)
        return [offer for offer in found if not self._is_busy(offer, 1)][:1]

    @cached_property
    def parts(self) -> list[Offer]:
        """The emptiest device of each node that would be ready first with the smallest part, and of
        those that would be with the whole model: between the two the same nodes lead. In a small
        cluster of all nodes."""
        if self.is_small:
            return self.survey.offers(self._per_node)
        parts = self._soonest(self._per_node)
        # Those that come first of all do so of the ones with room for the whole model, too.
        are_whole = all(map(self.survey.has_whole_room, parts))
        whole = parts if are_whole else self._soonest(self._whole_of_mains)
        return _each_once([*parts, *whole, *self.survey.offers(self._mains_of(self.whole))])

    @cached_property
    def whole_places(self) -> frozenset[tuple[str, int]]:
        """Those of the parts that have room for the whole model."""
        return frozenset(o.place for o in self.parts if self.survey.has_whole_room(o))

    def _entry_rank(self, offer: Offer) -> EntryRank:
        if offer.place not in self._entry_ranks:
            self._entry_ranks[offer.place] = entry_rank(self.survey.shape)(offer)
        return self._entry_ranks[offer.place]

    @cached_property
    def _whole_of_mains(self) -> Ints:
        return self.survey.with_whole_room(self._per_node)

    def _mains_of(self, offers: Iterable[Offer]) -> list[int]:
        """Places of the emptiest devices of their nodes."""
        row_of = self.survey.cluster.layout.row_of
        rows = {row_of[offer.node.id] for offer in offers}
        return [self.survey.main_of(row) for row in sorted(rows)]

    @cached_property
    def _mains(self) -> frozenset[tuple[str, int]]:
        return frozenset(offer.place for offer in self.parts)

    def _ranked_for(self, num_stages: int) -> list[Offer]:
        """The parts, and other devices of their nodes, soonest first."""
        if num_stages not in self._ranked:
            offers = _each_once([*self.parts, *self._crowding])
            self._ranked[num_stages] = sorted(offers, key=self._rank(num_stages))
        return self._ranked[num_stages]

    @cached_property
    def _crowding(self) -> list[Offer]:
        """Other devices of nodes that hold some of the model, which they need not fetch; in a small
        cluster of all nodes, because there may be no others."""
        nodes = [offer for offer in self.parts if offer.cached_bytes or self.is_small]
        mains = self._mains
        return [o for o in self._siblings(nodes) if o.place not in mains] if nodes else []

    def _siblings(self, chosen: Sequence[Offer]) -> Iterator[Offer]:
        """The devices of these nodes."""
        place_of = self.survey.cluster.layout.place_of
        for node in {offer.node.id: offer.node for offer in chosen}.values():
            if self.is_trusting or not node.is_suspect:
                able = [device for device in node.devices if self._has_room(device)]
                yield from self.survey.offers(place_of[(node.id, d.index)] for d in able)

    def _has_room(self, device: Device) -> bool:
        return device.room_bytes > 0 and device.computes(self.survey.shape.deployable.summary.dtype)

    @property
    def _per_node(self) -> Ints:
        return self.survey.all_mains if self.is_trusting else self.survey.trusted_mains

    def _soonest(self, places: Ints) -> list[Offer]:
        """For one of so many equal parts as there may be stages."""
        count = self._num_stages
        part_bytes = self._weight_bytes / count
        return self.survey.soonest(places, count, part_bytes) if len(places) else []

    def _rank(self, num_stages: int) -> Callable[[Offer], Rank]:
        """The order of `Survey.soonest`."""
        part_bytes = self._weight_bytes / num_stages

        def rank(offer: Offer) -> Rank:
            has_standby = offer.node.num_standbys > 0
            fetch_s = max(0.0, part_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
            start_s = ready_s(fetch_s, offer.launch_s(has_standby), offer.node.tail_s)
            return (
                offer.node.is_suspect,
                round(start_s / SAME_S),
                not has_standby,
                fetch_s,
                -offer.room_bytes,
                *offer.place,
            )

        return rank

    @property
    def _num_stages(self) -> int:
        return self.survey.shape.num_stages

    @property
    def _weight_bytes(self) -> int:
        return self.survey.shape.deployable.summary.weight_bytes


def _each_once(offers: Iterable[Offer]) -> list[Offer]:
    return list({offer.place: offer for offer in offers}.values())
