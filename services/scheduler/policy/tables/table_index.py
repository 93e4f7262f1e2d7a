"""Indexes of a table: under each key the values that stand there, in the order of the index. An
update shares with the index before it whatever it does not touch."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Generic, TypeVar

from immutables import Map

from services.scheduler.policy.nodes.lazy import cached_property

V = TypeVar("V")


@dataclass(slots=True)  # not frozen: there are hundreds in an update, and that takes long
class _Change(Generic[V]):
    """Of one value under one key; None: it does not stand there."""

    id: str
    old: V | None
    new: V | None


@dataclass(frozen=True)
class ByArrival(Generic[V]):
    """The values under one key, in the order in which they came there."""

    rows: Map[str, tuple[int, V]]  # by id, with the place of each

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> Collection[str]:
        return self.rows

    @cached_property
    def values(self) -> tuple[V, ...]:
        return tuple(value for _, value in sorted(self.rows.values(), key=itemgetter(0)))


@dataclass(frozen=True)
class ByRank(Generic[V]):
    """The values under one key, in the order of their ranks, and of their ids where these are
    equal. A group is copied as a whole by an update, which for thousands takes microseconds."""

    ranks: tuple[tuple[Any, str], ...]  # with the ids
    values: tuple[V, ...]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ids(self) -> Collection[str]:
        return [id_ for _, id_ in self.ranks]


Index = Map[str, ByArrival[V] | ByRank[V]]

MAX_STEPS = 64  # that are remembered: about as many updates as a round makes


@dataclass(frozen=True)
class RecentSteps:
    """Which keys of an index the last updates have moved: whoever looks again soon need not compare
    thousands. An index is known by the object that stands for it, so that none is kept."""

    now: object = field(default_factory=object)
    before: tuple[object, ...] = ()  # each step, oldest first
    moved: tuple[tuple[str, ...], ...] = ()  # by it

    def and_step(self, moved: Iterable[str]) -> "RecentSteps":
        keys = tuple(moved)
        if not keys:
            return self
        before, steps = (*self.before[1 - MAX_STEPS :], self.now), self.moved[1 - MAX_STEPS :]
        return RecentSteps(object(), before, (*steps, keys))

    def moved_since(self, before: "RecentSteps") -> set[str] | None:
        """None: that is too long ago, or was in another table."""
        if before.now is self.now:
            return set()
        found = set[str]()
        for index, keys in zip(reversed(self.before), reversed(self.moved), strict=True):
            found.update(keys)
            if index is before.now:
                return found
        return None


@dataclass
class IndexChanges(Generic[V]):
    """Collects what an update moves, so that each group is made anew once."""

    keys: Mapping[str, Callable[[V], Iterable[str]]]
    ranks: Mapping[str, Callable[[V], Any]]
    next_place: int
    _moves: defaultdict[str, defaultdict[str, list[_Change[V]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    _is_anything_noted: bool = False

    def __bool__(self) -> bool:
        return self._is_anything_noted

    def new_place(self) -> int:
        self.next_place += 1
        return self.next_place

    def note(self, id_: str, old: V | None, new: V | None) -> None:
        self._is_anything_noted = True
        for name, keys_of in self.keys.items():
            before = () if old is None else tuple(keys_of(old))
            after = () if new is None else tuple(keys_of(new))
            keys = before if before == after else (*before, *after)
            if not keys:
                continue
            by_key = self._moves[name]
            for key in keys if len(keys) == 1 else dict.fromkeys(keys):
                change = _Change(id_, old if key in before else None, new if key in after else None)
                by_key[key].append(change)

    def moved(self, index: str) -> Collection[str]:
        """The keys of which groups are made anew."""
        return self._moves.get(index, ())

    def carry_out(self, before: Mapping[str, Index[V]]) -> dict[str, Index[V]]:
        found = {name: before.get(name) or Map() for name in self.keys}
        for name, by_key in self._moves.items():
            index = found[name].mutate()
            for key, changes in by_key.items():
                group = self._group(name, index.get(key), changes)
                if len(group):
                    index[key] = group
                else:
                    index.pop(key, None)
            found[name] = index.finish()
        return found

    def _group(
        self, name: str, before: ByArrival[V] | ByRank[V] | None, changes: list[_Change[V]]
    ) -> ByArrival[V] | ByRank[V]:
        rank_of = self.ranks.get(name)
        if rank_of is not None:
            assert not isinstance(before, ByArrival), "an index has groups of one kind"
            return _ranked(before or ByRank((), ()), changes, rank_of)
        assert not isinstance(before, ByRank), "an index has groups of one kind"
        return self._arrived(Map() if before is None else before.rows, changes)

    def _arrived(self, before: Map[str, tuple[int, V]], changes: list[_Change[V]]) -> ByArrival[V]:
        rows = before.mutate()
        for change in changes:
            if change.new is None:
                del rows[change.id]
                continue
            place = rows[change.id][0] if change.old is not None else self.new_place()
            rows[change.id] = (place, change.new)
        return ByArrival(rows.finish())


def _ranked(before: ByRank[V], changes: list[_Change[V]], rank_of: Callable[[V], Any]) -> ByRank[V]:
    ranks, values = list(before.ranks), list(before.values)
    for change in changes:
        if change.old is not None:
            at = bisect_left(ranks, (rank_of(change.old), change.id))
            del ranks[at], values[at]
        if change.new is not None:
            rank = (rank_of(change.new), change.id)
            at = bisect_left(ranks, rank)
            ranks.insert(at, rank)
            values.insert(at, change.new)
    return ByRank(tuple(ranks), tuple(values))
