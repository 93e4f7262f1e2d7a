"""Immutable tables of values with indexes: an update copies only what it touches."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

V = TypeVar("V")
KeysOf = Callable[[V], Iterable[str]]


@dataclass(frozen=True)
class Table(Generic[V]):
    """Values by id; `keys` names the indexes and says under which keys a value stands in each."""

    keys: Mapping[str, KeysOf[V]]
    rows: Mapping[str, V] = field(default_factory=dict)
    _indexes: Mapping[str, Mapping[str, Mapping[str, V]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, id_: object) -> bool:
        return id_ in self.rows

    def __getitem__(self, id_: str) -> V:
        return self.rows[id_]

    def __iter__(self) -> Iterator[V]:
        return iter(self.rows.values())

    def get(self, id_: str | None) -> V | None:
        return None if id_ is None else self.rows.get(id_)

    def by(self, index: str, key: str) -> tuple[V, ...]:
        """The values that stand under the key, in the order in which they came."""
        return tuple(self._indexes.get(index, {}).get(key, {}).values())

    def count(self, index: str, key: str) -> int:
        return len(self._indexes.get(index, {}).get(key, ()))

    def keys_of(self, index: str) -> Iterable[str]:
        """The keys under which anything stands."""
        return self._indexes.get(index, {}).keys()

    def updated(self, changes: Mapping[str, V | None]) -> "Table[V]":
        """With these values; None takes a value out. A value that stays keeps its place."""
        if not changes:
            return self
        rows = dict(self.rows)
        indexes = {name: dict(self._indexes.get(name, {})) for name in self.keys}
        copied: set[tuple[str, str]] = set()
        for id_, new in changes.items():
            old = rows.pop(id_, None) if new is None else rows.get(id_)
            if new is not None:
                rows[id_] = new
            for name, keys_of in self.keys.items():
                self._move(indexes[name], name, copied, id_, keys_of, old, new)
        return Table(self.keys, rows, indexes)

    @staticmethod
    def _move(
        index: dict[str, Mapping[str, V]],
        name: str,
        copied: set[tuple[str, str]],
        id_: str,
        keys_of: KeysOf[V],
        old: V | None,
        new: V | None,
    ) -> None:
        before = set() if old is None else set(keys_of(old))
        after = set() if new is None else set(keys_of(new))
        for key in before | after:
            if (name, key) not in copied:
                index[key] = dict(index.get(key, {}))
                copied.add((name, key))
            place = index[key]
            assert isinstance(place, dict), "it was copied above"
            if new is not None and key in after:
                place[id_] = new
            else:
                place.pop(id_, None)
            if not place:
                del index[key]
                copied.discard((name, key))
