"""The digest of a set of units, by which two processes see whether they mean the same set without
telling each other what is in it."""

from collections.abc import Iterable
from dataclasses import dataclass

from blake3 import blake3

NUM_BUCKETS = 256  # parts of a set, by the first byte of the units' digests
_SIZE_BYTES = 16
_MODULUS = 1 << (8 * _SIZE_BYTES)


def bucket_of(unit_digest: str) -> int:
    return int(unit_digest[:2], 16)


@dataclass(frozen=True)
class UnitSetDigest:
    """The sum of a hash of each unit's digest, modulo 2^128: the order in which units came does not
    show in it, and it follows a unit that comes or goes without looking at the others."""

    value: int = 0

    def changed(self, added: Iterable[str] = (), removed: Iterable[str] = ()) -> "UnitSetDigest":
        """Of the set with these units, which it had not, and without those, which it had."""
        value = self.value + sum(map(_term, added)) - sum(map(_term, removed))
        return UnitSetDigest(value % _MODULUS)

    def plus(self, other: "UnitSetDigest") -> "UnitSetDigest":
        """Of both sets together, where no unit is in both."""
        return UnitSetDigest((self.value + other.value) % _MODULUS)

    def minus(self, other: "UnitSetDigest") -> "UnitSetDigest":
        """Of what is left of the set without the other one, which is a part of it."""
        return UnitSetDigest((self.value - other.value) % _MODULUS)

    @classmethod
    def of(cls, units: Iterable[str]) -> "UnitSetDigest":
        return cls().changed(added=units)

    @classmethod
    def from_bytes(cls, data: bytes) -> "UnitSetDigest":
        return cls(int.from_bytes(data))

    def to_bytes(self) -> bytes:
        return self.value.to_bytes(_SIZE_BYTES)

    def __str__(self) -> str:
        """As messages have it: 32 hexadecimal digits."""
        return self.to_bytes().hex()


NO_UNITS = UnitSetDigest()


def _term(unit_digest: str) -> int:
    """Hashed once more: whoever chooses what a unit holds shall not choose what it adds here."""
    return int.from_bytes(blake3(bytes.fromhex(unit_digest)).digest(length=_SIZE_BYTES))
