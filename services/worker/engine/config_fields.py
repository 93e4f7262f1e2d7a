"""Typed reads from a configuration document that remember which keys were understood."""

from collections.abc import Mapping
from typing import cast

from services.worker.engine.errors import ConfigError


class ConfigFields:
    """One JSON object. Every read marks its key; a null value counts as absent."""

    def __init__(self, document: Mapping[str, object], prefix: str = "") -> None:
        self._values = {key: value for key, value in document.items() if value is not None}
        self._prefix = prefix
        self._read: set[str] = set()

    def path(self, key: str) -> str:
        return f"{self._prefix}{key}"

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1. Raises ConfigError."""
        value = self._take(key, default)
        if type(value) is not int or value < 1:
            raise ConfigError(self.path(key), f"{value!r} is no whole number of at least 1")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number. Raises ConfigError."""
        value = self._take(key, default)
        if type(value) not in (int, float) or not 0 < cast("float", value) < float("inf"):
            raise ConfigError(self.path(key), f"{value!r} is no positive number")
        return float(cast("float", value))

    def flag(self, key: str) -> bool:
        """True or false, false when absent. Raises ConfigError."""
        value = self._take(key, False)
        if type(value) is not bool:
            raise ConfigError(self.path(key), f"{value!r} is neither true nor false")
        return value

    def text(self, key: str, default: str | None) -> str | None:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is not None and not isinstance(value, str):
            raise ConfigError(self.path(key), f"{value!r} is no text")
        return value

    def token_ids(self, key: str) -> frozenset[int]:
        """One token id or a list of them, none when absent. Raises ConfigError."""
        value = self._take(key, [])
        ids = value if isinstance(value, list) else [value]
        if any(type(item) is not int or item < 0 for item in ids):
            raise ConfigError(self.path(key), f"{value!r} is no token id and no list of them")
        return frozenset(ids)

    def section(self, key: str) -> "ConfigFields | None":
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ConfigError(self.path(key), f"{value!r} is no object")
        return ConfigFields(value, f"{self.path(key)}.")

    def require_only(self, key: str, only: object) -> None:
        """Raises ConfigError where the key has any other value."""
        self._read.add(key)
        value = self._values.get(key, only)
        if value != only:
            raise ConfigError(self.path(key), f"{value!r} is not supported, only {only!r}")

    def require_all_read(self, without_effect: frozenset[str]) -> None:
        """Raises ConfigError for the first key that nobody asked for."""
        unknown = sorted(self._values.keys() - self._read - without_effect)
        if unknown:
            raise ConfigError(self.path(unknown[0]), "this key is not supported")

    def _take(self, key: str, default: object) -> object:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise ConfigError(self.path(key), "is missing")
        return value
