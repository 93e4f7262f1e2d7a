"""Values of a scenario that are given from outside: `traffic.rate_per_s=0.8`. Pure."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from services.scheduler.simulation.errors import ScenarioError

Table = Mapping[str, object]


@dataclass(frozen=True)
class Override:
    """`key`: a path, or its end where only one key of the file ends so, with or without its unit.
    `is_new`: the file need not have it."""

    key: str
    value: object
    is_new: bool = False

    @classmethod
    def of(cls, text: str) -> "Override":
        """`KEY=VALUE`; a value that is no toml is a text. Raises ScenarioError."""
        key, is_given, value = text.partition("=")
        if not is_given or not key.strip():
            raise ScenarioError("--set", text, text, "KEY=VALUE, e.g. traffic.rate_per_s=0.8")
        try:
            return cls(key.strip(), tomllib.loads(f"value = {value}")["value"])
        except tomllib.TOMLDecodeError:
            return cls(key.strip(), value.strip())


def overridden(source: str, table: Table, overrides: Sequence[Override]) -> Table:
    """Raises ScenarioError for a key that the file does not have, or has more than once."""
    for override in overrides:
        table = merged(table, _nested(_path(source, table, override), override.value))
    return table


def merged(table: Table, over: Table) -> Table:
    """With what `over` says, table by table."""
    found = dict(table)
    for key, value in over.items():
        own = found.get(key)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            found[key] = merged(own, value)
        else:
            found[key] = value
    return found


def _path(source: str, table: Table, override: Override) -> tuple[str, ...]:
    wanted = tuple(override.key.split("."))
    paths = list(_paths(table))
    if wanted in paths or override.is_new or override.key == "constants":
        return wanted
    found = [path for path in paths if path[-len(wanted) :] == wanted]
    found = found or [path for path in paths if _is_without_unit(wanted, path)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(".".join(path) for path in found)
        raise ScenarioError(source, override.key, override.value, f"one key; it has {several}")
    known = [".".join(path) for path in paths]
    near = ", ".join(get_close_matches(override.key, known, cutoff=0.5)) or ", ".join(table)
    raise ScenarioError(source, override.key, override.value, f"a key of the file, as {near}")


def _is_without_unit(wanted: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """`rate` for `rate_per_s`."""
    *before, last = wanted
    is_same_table = list(path[-len(wanted) : -1]) == before
    return is_same_table and path[-1].startswith(f"{last}_")


def _paths(table: Table, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (*before, key)
        if isinstance(value, Mapping):
            yield from _paths(value, (*before, key))


def _nested(path: tuple[str, ...], value: object) -> Table:
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, Mapping)
    return value
