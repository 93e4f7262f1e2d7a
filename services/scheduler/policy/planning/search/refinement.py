"""Looks once more where layers could not be cut nearly as well as the estimate says. Pure.

Rarely needed: where devices are so full, or layers so large or so unevenly cached, that it matters
which stage lies where.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice, permutations

from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer
from services.scheduler.policy.planning.pipelines import cut_in_order
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.search.candidates import Candidates

# Cuts that one choice takes at most: as many as it takes to try all orders of four devices for some
# sets, and not so many that a round takes long.
MAX_CUTS = 160
MAX_ORDERS = 24
MAX_SETS = 48
MAX_CUTS_OF_MANY = 16  # where there are more devices, one or the other is as good

AMPLE = 1.5  # times an equal part: more room than that makes no difference


def other_plans(
    candidates: Candidates, chosen: Sequence[Offer], num_full: int, shape: ModelShape
) -> Iterator[Plan]:
    """On the same devices in other orders, then on others; a bounded number of them."""
    max_cuts = MAX_CUTS if candidates.is_small else MAX_CUTS_OF_MANY
    if candidates.num_cuts >= max_cuts:
        return
    for plan in _plans(candidates, chosen, num_full, shape):
        candidates.num_cuts += 1
        if plan is not None:
            yield plan
        if candidates.num_cuts >= max_cuts:
            return


def _plans(
    candidates: Candidates, chosen: Sequence[Offer], num_full: int, shape: ModelShape
) -> Iterator[Plan | None]:
    """Devices that are alike in all that matters are exchanged only once."""
    kind, seen = _kind_of(shape, len(chosen)), set[tuple[Hashable, ...]]()
    for devices in islice(_sets(candidates, chosen, num_full), MAX_SETS):
        able = [o.place for o in devices if not num_full or o.place in candidates.whole_places]
        for ordered in islice(permutations(devices), MAX_ORDERS):
            entry, kinds = ordered[0].place, tuple(map(kind, ordered))
            if entry in able and kinds not in seen:
                seen.add(kinds)
                others = [place for place in able if place != entry]
                full = [entry, *others][:num_full]
                yield cut_in_order(ordered, shape, full)


def _sets(
    candidates: Candidates, chosen: Sequence[Offer], num_full: int
) -> Iterator[Sequence[Offer]]:
    yield chosen
    yield from candidates.alternatives(chosen, num_full)


def _kind_of(shape: ModelShape, num_stages: int) -> Callable[[Offer], Hashable]:
    """What a plan of so many stages depends on."""
    ample_bytes = AMPLE * shape.needed_bytes / num_stages

    known: dict[tuple[str, int], Hashable] = {}

    def kind(offer: Offer) -> Hashable:
        if offer.place not in known:
            known[offer.place] = made(offer)
        return known[offer.place]

    def made(offer: Offer) -> Hashable:
        node = offer.node
        return (
            offer.rate_bytes_per_s,
            node.tail_s,
            offer.launch_s(node.num_standbys > 0),
            offer.cached,
            min(offer.room_bytes, ample_bytes),
        )

    return kind
