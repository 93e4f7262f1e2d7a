"""Immutable tables of values with indexes. An update shares with the table before it whatever it
does not touch, so a thousand updates of a table of thousands cost as much as a thousand of a small
one."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from immutables import Map

from services.scheduler.policy.nodes.changed_keys import changed_keys
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.tables.table_index import (
    ByArrival,
    ByRank,
    Index,
    IndexChanges,
    RecentSteps,
)

V = TypeVar("V")
KeysOf = Callable[[V], Iterable[str]]
RankOf = Callable[[V], Any]


@dataclass(frozen=True)
class Schema(Generic[V]):
    """The indexes of a table by name, with the keys under which a value stands in each. `ranks`:
    by what the values under a key are ordered, where it is not who came first. `watched`: those
    of which it is remembered what the last updates have moved."""

    keys: Mapping[str, KeysOf[V]]
    ranks: Mapping[str, RankOf[V]] = field(default_factory=dict)
    watched: Collection[str] = ()


@dataclass(frozen=True)
class Table(Generic[V]):
    """Values by id."""

    schema: Schema[V] = field(compare=False)
    rows: Map[str, V] = field(default_factory=Map)
    _places: Map[str, int] = field(default_factory=Map, repr=False, compare=False)
    _indexes: Mapping[str, Index[V]] = field(default_factory=dict, repr=False, compare=False)
    _next_place: int = field(default=0, repr=False, compare=False)
    _recent: Mapping[str, RecentSteps] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, id_: object) -> bool:
        return id_ in self.rows

    def __getitem__(self, id_: str) -> V:
        return self.rows[id_]

    def __iter__(self) -> Iterator[V]:
        """In the order in which they came."""
        return iter(self._in_order)

    @cached_property
    def _in_order(self) -> tuple[V, ...]:
        rows = self.rows
        return tuple(rows[id_] for id_ in sorted(rows, key=self._places.__getitem__))

    def in_order(self, ids: Iterable[str]) -> list[str]:
        """Of those that are there, in the order in which they came."""
        places = self._places
        return sorted((id_ for id_ in ids if id_ in places), key=places.__getitem__)

    def get(self, id_: str | None) -> V | None:
        return None if id_ is None else self.rows.get(id_)

    def by(self, index: str, key: str) -> tuple[V, ...]:
        """The values that stand under the key, in the order of the index."""
        found = self._group(index, key)
        return () if found is None else found.values

    def ids(self, index: str, key: str) -> Collection[str]:
        """Of the values that stand under the key, in any order."""
        found = self._group(index, key)
        return () if found is None else found.ids

    def first(self, index: str, key: str) -> V | None:
        return next(iter(self.by(index, key)), None)

    def count(self, index: str, key: str) -> int:
        found = self._group(index, key)
        return 0 if found is None else len(found)

    def versions(self, index: str) -> Mapping[str, object]:
        """By key: the same object for as long as nothing that stands under the key has changed."""
        return self._indexes.get(index, {})

    def keys_changed_since(self, before: "Table[V]", index: str) -> set[str]:
        """Under which other values stand than in an earlier table. May name some more."""
        now, then = self._recent.get(index), before._recent.get(index)
        moved = None if now is None or then is None else now.moved_since(then)
        if moved is None:
            return changed_keys(before.versions(index), self.versions(index))
        return moved

    def keys_of(self, index: str) -> Collection[str]:
        """The keys under which anything stands."""
        return self._indexes[index] if index in self._indexes else ()

    def _group(self, index: str, key: str) -> ByArrival[V] | ByRank[V] | None:
        groups = self._indexes.get(index)
        return None if groups is None else groups.get(key)

    def updated(self, changes: Mapping[str, V | None]) -> "Table[V]":
        """With these values; None takes a value out. A value that stays keeps its place."""
        moves = IndexChanges[V](self.schema.keys, self.schema.ranks, self._next_place)
        rows, places = self.rows.mutate(), self._places.mutate()
        for id_, new in changes.items():
            old = rows.get(id_)
            if new is old:
                continue
            if new is None:
                del rows[id_], places[id_]
            else:
                rows[id_] = new
                if old is None:
                    places[id_] = moves.new_place()
            moves.note(id_, old, new)
        if not moves:
            return self
        indexes = moves.carry_out(self._indexes)
        recent = {
            name: (self._recent.get(name) or RecentSteps()).and_step(moves.moved(name))
            for name in self.schema.watched
        }
        return Table(self.schema, rows.finish(), places.finish(), indexes, moves.next_place, recent)
