"""Divides models into parts of equal size, so that each message about routes stays small.

A part is named by a remainder of the model's hash, so the leader may choose how many there are from
message to message: 4 parts of 8 say together what 2 parts of 4 say. Pure.
"""

import zlib
from collections.abc import Iterator

from libs.common.bus.messages import RoutesPart

ALL_MODELS = RoutesPart(part=0, num_parts=1)
MAX_PARTS = 2**20
_NUM_BUCKETS = 1024


def covers(part: RoutesPart, model_id: str) -> bool:
    return _hash(model_id) % part.num_parts == part.part


def parts_of(whole: RoutesPart, num_parts: int) -> tuple[RoutesPart, ...]:
    """Those of `num_parts` that make up the whole."""
    assert num_parts >= whole.num_parts
    remainders = range(whole.part, num_parts, whole.num_parts)
    return tuple(RoutesPart(part=part, num_parts=num_parts) for part in remainders)


def halves(part: RoutesPart) -> tuple[RoutesPart, ...]:
    return parts_of(part, 2 * part.num_parts)


def is_within(part: RoutesPart, whole: RoutesPart) -> bool:
    is_finer = part.num_parts >= whole.num_parts
    return is_finer and part.part % whole.num_parts == whole.part


class ModelBuckets:
    """A set of models that finds those of a part without a look at the others."""

    def __init__(self) -> None:
        self._buckets: list[set[str]] = [set() for _ in range(_NUM_BUCKETS)]

    def add(self, model_id: str) -> None:
        self._bucket(model_id).add(model_id)

    def discard(self, model_id: str) -> None:
        self._bucket(model_id).discard(model_id)

    def of(self, part: RoutesPart) -> Iterator[str]:
        """Do not change the set meanwhile."""
        step = min(part.num_parts, _NUM_BUCKETS)
        for bucket in self._buckets[part.part % step :: step]:
            for model_id in bucket:
                if part.num_parts <= _NUM_BUCKETS or covers(part, model_id):
                    yield model_id

    def _bucket(self, model_id: str) -> set[str]:
        return self._buckets[_hash(model_id) % _NUM_BUCKETS]


def _hash(model_id: str) -> int:
    """The same in every process, unlike Python's own."""
    return zlib.crc32(model_id.encode())
