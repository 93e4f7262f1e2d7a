"""A table of a toml file, read key by key: a wrong value, or a key that nobody reads, is an error
that names file, key and value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf, isfinite
from typing import TypeVar

from services.scheduler.simulation.errors import ScenarioError

E = TypeVar("E", bound=StrEnum)

GIGA = 1e9


@dataclass(eq=False)
class Section:
    """`path` is where it stands in the file, e.g. `devices.a10`."""

    source: str
    path: str
    table: Mapping[str, object]
    _read: set[str] = field(default_factory=set)

    def __contains__(self, key: str) -> bool:
        return key in self.table

    def error(self, key: str, expected: str) -> ScenarioError:
        return ScenarioError(self.source, self.name_of(key), self.table.get(key), expected)

    def name_of(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def number(
        self, key: str, default: float | None = None, *, least: float = 0.0, most: float = inf
    ) -> float:
        value = self._value(key, default, "a number")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if isfinite(value) and least <= value <= most:
                return float(value)
        raise self.error(key, _number_words("a number", least, most))

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if value == 0:
            raise self.error(key, "a number above 0")
        return value

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        value = self._value(key, default, "a whole number")
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(key, _number_words("a whole number", least, inf))
        return value

    def bytes_of_gb(self, key: str, default: float | None = None) -> int:
        """From GB, 10^9 bytes."""
        return round(self.number(key, default) * GIGA)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._value(key, default, "a text")
        if not isinstance(value, str):
            raise self.error(key, "a text")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._value(key, default, "true or false")
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def choice(self, key: str, kind: type[E], default: E | None = None) -> E:
        value = self._value(key, default, "a text")
        try:
            return kind(str(value))
        except ValueError as exc:
            raise self.error(key, " or ".join(member.value for member in kind)) from exc

    def points(self, key: str) -> tuple[tuple[int, float], ...]:
        """Pairs of a whole number and a number above 0, the first ones ascending."""
        expected = "pairs like [[1, 0.030], [8, 0.042]], ascending, with numbers above 0"
        value = self._value(key, None, expected)
        if not isinstance(value, list) or not value:
            raise self.error(key, expected)
        found: list[tuple[int, float]] = []
        for pair in value:
            if not _is_point(pair) or (found and pair[0] <= found[-1][0]):
                raise self.error(key, expected)
            found.append((pair[0], float(pair[1])))
        return tuple(found)

    def section(self, key: str, *, is_optional: bool = False) -> "Section":
        value = self._value(key, {} if is_optional else None, "a table")
        if not isinstance(value, Mapping):
            raise self.error(key, "a table")
        return Section(self.source, self.name_of(key), value)

    def sections(self) -> Iterator[tuple[str, "Section"]]:
        """Each entry as a table of its own, by name; there is one at least."""
        if not self.table:
            raise ScenarioError(self.source, self.path, {}, "a table with one entry at least")
        for key in self.table:
            yield key, self.section(key)

    def finish(self) -> None:
        """Raises ScenarioError for a key that was not read."""
        for key in self.table:
            if key not in self._read:
                known = ", ".join(sorted(self._read))
                raise self.error(key, f"no such key; there are {known}")

    def _value(self, key: str, default: object, expected: str) -> object:
        self._read.add(key)
        value = self.table.get(key, default)
        if value is None:
            raise ScenarioError(self.source, self.name_of(key), None, f"{expected}; it is missing")
        return value


def _is_point(pair: object) -> bool:
    if not isinstance(pair, list) or len(pair) != 2:
        return False
    size, value = pair
    if not isinstance(size, int) or not isinstance(value, int | float):
        return False
    return size >= 1 and 0 < value < inf


def _number_words(what: str, least: float, most: float) -> str:
    if most == inf:
        return f"{what} of at least {least:g}"
    return f"{what} from {least:g} to {most:g}"
