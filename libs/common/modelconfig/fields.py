"""Typed reads from a configuration document that remember which keys were understood.

The document is untrusted: sizes have limits, and whoever reads says so when a key is left over.
"""

from collections.abc import Mapping
from typing import cast

from libs.common.modelconfig.errors import ModelConfigError

MAX_WIDTH = 1 << 20


class ConfigFields:
    """One JSON object. Every read marks its key; a null value counts as absent."""

    def __init__(self, document: Mapping[str, object], prefix: str = "") -> None:
        self._values = {key: value for key, value in document.items() if value is not None}
        self._nulls = document.keys() - self._values.keys()
        self._prefix = prefix
        self._read: set[str] = set()

    def path(self, key: str) -> str:
        return f"{self._prefix}{key}"

    def error(self, key: str, reason: str) -> ModelConfigError:
        return ModelConfigError(self.path(key), reason)

    def has(self, key: str) -> bool:
        return key in self._values

    def is_null(self, key: str) -> bool:
        """Whether the key is there and says "none", where absence means something else."""
        return key in self._nulls

    def size(self, key: str, default: int | None = None, *, maximum: int = MAX_WIDTH) -> int:
        """A whole number from 1 to `maximum`. Raises ModelConfigError."""
        value = self._take(key, default)
        if type(value) is not int or not 1 <= value <= maximum:
            raise self.error(key, f"{_shown(value)} is no whole number from 1 to {maximum}")
        return value

    def count(self, key: str, default: int) -> int:
        """A whole number from 0 on. Raises ModelConfigError."""
        value = self._take(key, default)
        if type(value) is not int or value < 0:
            raise self.error(key, f"{_shown(value)} is no whole number from 0 on")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number. Raises ModelConfigError."""
        value = self._take(key, default)
        if type(value) not in (int, float) or not 0 < cast("float", value) <= 1e30:
            raise self.error(key, f"{_shown(value)} is no positive number")
        return float(cast("float", value))

    def flag(self, key: str, default: bool = False) -> bool:
        """Raises ModelConfigError."""
        value = self._take(key, default)
        if type(value) is not bool:
            raise self.error(key, f"{_shown(value)} is neither true nor false")
        return value

    def text(self, key: str, default: str | None) -> str | None:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"{_shown(value)} is no text")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts, None when absent. Raises ModelConfigError."""
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"{_shown(value)} is no list of texts")
        return tuple(value)

    def section(self, key: str) -> "ConfigFields | None":
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.error(key, f"{_shown(value)} is no object")
        return ConfigFields(value, f"{self.path(key)}.")

    def skip(self, *keys: str) -> None:
        """Understood, and without effect on this model."""
        self._read.update(keys)

    def require_only(self, key: str, *allowed: object) -> None:
        """Raises ModelConfigError where the key is there with any other value."""
        self._read.add(key)
        value = self._values.get(key)
        if value is not None and value not in allowed:
            known = " or ".join(repr(item) for item in allowed)
            raise self.error(key, f"{_shown(value)} is not supported, only {known}")

    def require_all_read(self, without_effect: frozenset[str] = frozenset()) -> None:
        """Raises ModelConfigError for the first key that nobody asked for."""
        unknown = sorted(self._values.keys() - self._read - without_effect)
        if unknown:
            raise self.error(unknown[0][:120], "this key is not supported")

    def _take(self, key: str, default: object) -> object:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        return value


def _shown(value: object) -> str:
    """For a person; what a stranger wrote is cut short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
