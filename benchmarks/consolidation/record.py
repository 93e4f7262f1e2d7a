"""What the product itself tells of a consolidation, read from the timeline of the cold start before
it. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]
STEPS = ("load", "copy", "drain", "move", "first_step")
_MOVED = re.compile(r"(\d+) sequences, (\d+) bytes before, (\d+) at the switch")
_RECOMPUTED = re.compile(r"(\d+) sequences are computed again")


@dataclass(frozen=True)
class SwitchRecord:
    """Moments are seconds since 1970, by the clock of the entry's node."""

    first_token_at_s: float  # of the pipeline
    loading_at_s: float
    loaded_at_s: float
    frozen_at_s: float  # nothing is launched from then on
    drained_at_s: float
    moved_at_s: float
    stepped_at_s: float  # the first tokens of the whole model are out
    num_moved: int  # sequences
    num_recomputed: int
    precopied_bytes: int
    moved_bytes: int  # at the switch

    @property
    def first_token_to_standalone_s(self) -> float:
        return self.moved_at_s - self.first_token_at_s


def record_of(steps: Sequence[Json]) -> SwitchRecord | None:
    """From the steps of a cold start as the API tells them; None until all are told."""
    found = {step["name"]: step for step in steps if step["ended_at"] is not None}
    own = {name: found.get(f"consolidation.{name}") for name in STEPS}
    first_token = found.get("first_token")
    load, drain, move, first_step = (own[n] for n in ("load", "drain", "move", "first_step"))
    if not (first_token and load and drain and move and first_step):
        return None
    return SwitchRecord(
        _at_s(first_token["ended_at"]),
        loading_at_s=_at_s(load["started_at"]),
        loaded_at_s=_at_s(load["ended_at"]),
        frozen_at_s=_at_s(drain["started_at"]),
        drained_at_s=_at_s(drain["ended_at"]),
        moved_at_s=_at_s(move["ended_at"]),
        stepped_at_s=_at_s(first_step["ended_at"]),
        **_counts(move["detail"]),
    )


def _counts(detail: str) -> dict[str, int]:
    """Of the words that the step `move` is told with. Raises ValueError."""
    if match := _MOVED.search(detail):
        num_moved, precopied_bytes, moved_bytes = map(int, match.groups())
        return {
            "num_moved": num_moved,
            "num_recomputed": 0,
            "precopied_bytes": precopied_bytes,
            "moved_bytes": moved_bytes,
        }
    if match := _RECOMPUTED.search(detail):
        return {
            "num_moved": 0,
            "num_recomputed": int(match[1]),
            "precopied_bytes": 0,
            "moved_bytes": 0,
        }
    raise ValueError(f"what was moved is told in other words: {detail!r}")


def _at_s(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
