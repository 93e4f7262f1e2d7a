"""Mappings that nobody changes: one with another value shares the rest with the one before it."""

from collections.abc import Mapping
from typing import TypeVar

from immutables import Map

K = TypeVar("K")
V = TypeVar("V")


def as_map(mapping: Mapping[K, V]) -> Map[K, V]:
    """The mapping itself where it is of that kind; any other one is copied, once."""
    return mapping if isinstance(mapping, Map) else Map(mapping)


def put(mapping: Mapping[K, V], key: K, value: V) -> Map[K, V]:
    return as_map(mapping).set(key, value)


def put_all(mapping: Mapping[K, V], changes: Mapping[K, V]) -> Mapping[K, V]:
    return as_map(mapping).update(changes) if changes else mapping


def drop(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    """Without the key, which may be missing."""
    return as_map(mapping).delete(key) if key in mapping else mapping
