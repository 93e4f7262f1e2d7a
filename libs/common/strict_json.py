"""Typed reading of JSON that somebody else wrote: every error names the field and what it wants.

Stdlib only: the worker runtime reads manifests with it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NoReturn

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonFieldError(ValueError):
    """`field` is a dotted path such as `units[3].size_bytes`; `expected` completes "expected …"."""

    def __init__(self, field: str, expected: str) -> None:
        self.field, self.expected = field, expected
        super().__init__(f"{field}: expected {expected}")


@dataclass(frozen=True)
class JsonObject:
    """One JSON object and where it stands in its document."""

    values: Mapping[str, object]
    path: str = ""

    def field(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether the key is there with a value other than null."""
        return self.values.get(key) is not None

    def text(self, key: str, *, max_length: int = 1 << 20) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or len(value) > max_length:
            self._refuse(key, f"a text of at most {max_length} characters")
        return value

    def integer(self, key: str, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
        return _integer(self.values.get(key), self.field(key), minimum, maximum)

    def number(self, key: str, *, above: float = 0.0, maximum: float = 1e30) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(key, "a number")
        if not above < value <= maximum:
            self._refuse(key, f"a number above {above:g} and at most {maximum:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self.values.get(key)
        if not isinstance(value, bool):
            self._refuse(key, "true or false")
        return value

    def integers(self, key: str, *, minimum: int = 0, max_items: int = 1 << 20) -> tuple[int, ...]:
        items = self._items(key, max_items)
        return tuple(
            _integer(item, f"{self.field(key)}[{i}]", minimum, 2**63 - 1)
            for i, item in enumerate(items)
        )

    def texts(self, key: str, *, max_items: int = 1 << 20) -> tuple[str, ...]:
        items = self._items(key, max_items)
        for i, item in enumerate(items):
            if not isinstance(item, str):
                raise JsonFieldError(f"{self.field(key)}[{i}]", "a text")
        return tuple(str(item) for item in items)

    def child(self, key: str) -> "JsonObject":
        return as_object(self.values.get(key), self.field(key))

    def children(self, key: str, *, max_items: int = 1 << 20) -> tuple["JsonObject", ...]:
        items = self._items(key, max_items)
        return tuple(as_object(item, f"{self.field(key)}[{i}]") for i, item in enumerate(items))

    def members(self) -> Iterable[tuple[str, "JsonObject"]]:
        """Every key with its value, each of which must be an object."""
        return ((key, as_object(value, self.field(key))) for key, value in self.values.items())

    def require_only(self, known: frozenset[str]) -> None:
        for key in self.values:
            if key not in known:
                self._refuse(key, f"only the fields {', '.join(sorted(known))}")

    def _items(self, key: str, max_items: int) -> list[object]:
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) > max_items:
            self._refuse(key, f"a list of at most {max_items} items")
        return value

    def _refuse(self, key: str, expected: str) -> NoReturn:
        raise JsonFieldError(self.field(key), expected)


def as_object(value: object, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise JsonFieldError(path, "an object")
    return JsonObject(value, path)


def parse_object(data: bytes, *, name: str = "document") -> JsonObject:
    """The object that `data` (UTF-8) holds.

    No duplicate keys, no NaN or infinities, no half surrogate pairs: what is accepted can be
    written again by `canonical_bytes`.

    Raises JsonFieldError with `name` as the field for anything that is not such an object.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if _SURROGATE_ESCAPE.search(data):
            canonical_bytes(value)  # raises for half a pair
    except (ValueError, RecursionError) as exc:
        raise JsonFieldError(name, f"a JSON object ({_reason(exc)})") from exc
    if not isinstance(value, dict):
        raise JsonFieldError(name, "a JSON object")
    return JsonObject(value)


def canonical_bytes(value: object) -> bytes:
    """The one byte string that stands for this JSON value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def _integer(value: object, field: str, minimum: int, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise JsonFieldError(field, f"a whole number from {minimum} to {maximum}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text[:40]} is not a number that a computer can hold")
    return value


def _reason(exc: Exception) -> str:
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)[:200]
