"""Cuts a model's layers into contiguous stages that finish fetching together. Pure.

A stage's time is what it still has to fetch over its share of the network, and what its node takes
from the last byte on. Stage 0 also holds the embedding, the final norm and the head, so it gets
fewer layers than the others, or none.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf

from services.scheduler.policy.nodes.lazy import cached_property

_HAIR = 1e-9  # relative: times that differ by less are the same


def _sums(values: Sequence[int]) -> list[int]:
    return list(accumulate(values, initial=0))


@dataclass(frozen=True)
class Weights:
    """What the layers and the ends of a model weigh on a device; KV belongs to layers."""

    layer_bytes: Sequence[int]
    end_bytes: int  # embedding, final norm and head
    kv_bytes: int  # of all layers together, an equal share each

    @cached_property
    def held_sums(self) -> list[int]:
        """Of the first layers. In units of 1/num_layers bytes, so that a layer's share of the KV
        cache is whole."""
        num_layers = len(self.layer_bytes)
        return _sums([num_layers * size + self.kv_bytes for size in self.layer_bytes])


@dataclass(frozen=True)
class Place:
    """A device that can take a stage, and what its node would have to fetch for it."""

    free_bytes: int
    rate_bytes_per_s: float
    missing_layer_bytes: Sequence[int]
    missing_end_bytes: int  # if it becomes stage 0
    tail_s: float = 0.0  # from the last byte until it can compute; 0 where nothing is missing
    # Of the node's host cache: what is free, and what the units would take of it.
    cache_free_bytes: float = inf
    cache_layer_bytes: Sequence[int] = ()
    cache_end_bytes: int = 0

    @cached_property
    def missing_sums(self) -> list[int]:
        """Of the first layers."""
        return _sums(self.missing_layer_bytes)

    @cached_property
    def cache_sums(self) -> list[int]:
        return _sums(self.cache_layer_bytes)


@dataclass(frozen=True)
class Split:
    """Stage i executes the layers [bounds[i], bounds[i + 1])."""

    bounds: tuple[int, ...]
    ready_s: tuple[float, ...]  # until each has its weights and can compute with them

    @property
    def num_busy(self) -> int:
        """Stages that have something to do: stage 0 has the ends, the others need layers."""
        return 1 + sum(end > start for start, end in pairwise(self.bounds[1:]))

    @property
    def finish_s(self) -> float:
        return max(self.ready_s)


def split(weights: Weights, places: Sequence[Place], min_busy: int = 1) -> Split | None:
    """The split that is complete soonest, stage i on place i; None when the room does not suffice.

    Among equally soon ones each stage's successors finish as soon as they can, too, so that no
    stage idles while another one holds its layers. Later stages may be empty, but not the first
    `min_busy`; stage 0 has the ends, and may do without layers.
    """
    cutter = _Cutter(weights, places, min_busy)
    bounds, limit_s = [0], inf
    for index in range(len(places)):
        soonest_s = cutter.soonest_s(index, bounds[-1], limit_s)
        if soonest_s is None:
            return None
        limit_s = soonest_s
        bounds.append(cutter.reach(index, bounds[-1], limit_s))
    times_s = (cutter.time_s(i, bounds[i], bounds[i + 1]) for i in range(len(places)))
    return Split(tuple(bounds), tuple(times_s))


class _Cutter:
    """Prefix sums make a stage's reach two binary searches; the limit is found by bisection."""

    def __init__(self, weights: Weights, places: Sequence[Place], min_busy: int) -> None:
        self._num_layers = len(weights.layer_bytes)
        self._min_busy = min_busy
        self._held = weights.held_sums
        self._missing = [place.missing_sums for place in places]
        self._places = places
        self._end_missing = [places[0].missing_end_bytes] + [0] * (len(places) - 1)
        ends = [weights.end_bytes] + [0] * (len(places) - 1)
        self._free = [
            self._num_layers * (place.free_bytes - end)
            for place, end in zip(places, ends, strict=True)
        ]
        self._rates = [place.rate_bytes_per_s for place in places]
        self._tails_s = [place.tail_s for place in places]
        self._files = [place.cache_sums for place in places]
        self._cache_free = [
            place.cache_free_bytes - (place.cache_end_bytes if index == 0 else 0)
            for index, place in enumerate(places)
        ]

    def time_s(self, index: int, start: int, end: int) -> float:
        missing = self._missing[index]
        num_bytes: int = missing[end] - missing[start] + self._end_missing[index]
        return num_bytes / self._rates[index] + self._tails_s[index] if num_bytes else 0.0

    def reach(self, index: int, start: int, limit_s: float) -> int:
        """The end of the longest stage from `start` that fits the place and the limit.

        Below `start` when even an empty one does not.
        """
        by_room = bisect_right(self._held, self._held[start] + self._free[index]) - 1
        if index < self._min_busy - 1:  # one layer is left for each that must not be empty
            by_room = min(by_room, self._num_layers - (self._min_busy - 1 - index))
        if self._cache_free[index] != inf:
            files = self._files[index]
            by_cache = bisect_right(files, files[start] + self._cache_free[index]) - 1
            by_room = min(by_room, by_cache)
        if limit_s == inf:
            return by_room
        missing = self._missing[index]
        by_time = bisect_right(missing, missing[start] + self._budget_bytes(index, limit_s)) - 1
        return min(by_room, by_time)

    def _budget_bytes(self, index: int, limit_s: float) -> float:
        """Of layers, that may be missing within the limit; below 0: not even the ends."""
        # Half a hair more, so that a stage's own time as the limit admits the stage.
        fetch_s = limit_s * (1 + _HAIR / 2) - self._tails_s[index]
        budget = fetch_s * self._rates[index] - self._end_missing[index]
        return budget if self._end_missing[index] else max(0.0, budget)

    def soonest_s(self, first: int, start: int, within_s: float) -> float | None:
        """The least time in which places from `first` on hold every layer from `start` on."""
        best_s = self._covered_s(first, start, within_s)
        if best_s is None:
            return None
        too_short_s = self._least_missing_bytes(start) / sum(self._rates[first:])
        while True:
            sooner_s = self._covered_s(first, start, best_s * (1 - _HAIR))
            if sooner_s is None or sooner_s >= best_s:
                return best_s
            limit_s = (sooner_s + too_short_s) / 2
            covered_s = self._covered_s(first, start, limit_s)
            if covered_s is None:
                too_short_s = limit_s
            best_s = sooner_s if covered_s is None else covered_s

    def _least_missing_bytes(self, start: int) -> int:
        """What nodes must fetch whichever of them gets which layer."""
        return self._least_missing[-1] - self._least_missing[start]

    @cached_property
    def _least_missing(self) -> list[int]:
        by_layer = zip(*(place.missing_layer_bytes for place in self._places), strict=True)
        return _sums(list(map(min, by_layer)))

    def _covered_s(self, first: int, start: int, limit_s: float) -> float | None:
        """The time of the greedy split within the limit: if any split keeps it, this one does."""
        longest_s = 0.0
        for index in range(first, len(self._rates)):
            end = self.reach(index, start, limit_s)
            if end < start + (0 < index < self._min_busy):
                return None
            longest_s = max(longest_s, self.time_s(index, start, end))
            start = end
        return longest_s if start == self._num_layers else None
