"""Hidden states on their way between stages, worked out from what both ends have told. Pure.

A stage tells when its part of the first prefill left it, the next one when that was there, each by
its own node's clock: a hop's length is wrong by as much as the clocks differ, and one that would
end before it begins takes no time.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from libs.common.bus.messages import Step
from libs.common.observability.timeline import HOP

_LEFT, _RECEIVED, _RETURNED = "prefill", "prefill.received", "head"
_NEEDED = ("build_engine", "weights", "device_copy")  # by a stage that takes what comes at once


def hops(stages: Mapping[int, Sequence[Step]]) -> dict[int, Step]:
    """By the receiving stage, those that both ends have told; the last stage sends to stage 0."""
    if len(stages) < 2:
        return {}
    found = {index: _hop(stages, index) for index in stages}
    return {index: hop for index, hop in found.items() if hop is not None}


def mean_hop_s(stages: Mapping[int, Sequence[Step]]) -> float | None:
    """Of all hops round the ring of stages; None until both ends of each are told, and where a
    stage was not yet able to compute when its first one left: then it is not the way that took
    long.

    Every clock is once where a hop begins and once where one ends: how much they differ cancels
    out.
    """
    if len(stages) < 2:
        return None
    total_s = 0.0
    for index, steps in stages.items():
        ends = _ends(stages, index)
        if ends is None or (index and not _could_compute(steps, ends[0])):
            return None
        total_s += (ends[1] - ends[0]).total_seconds()
    return max(0.0, total_s / len(stages))


def _could_compute(steps: Sequence[Step], at: datetime) -> bool:
    """Whether its engine and all its weights were there."""
    needed = [step for name in _NEEDED if (step := _find(steps, name)) is not None]
    return all(step.ended_at is not None and step.ended_at <= at for step in needed)


def _hop(stages: Mapping[int, Sequence[Step]], receiver: int) -> Step | None:
    ends = _ends(stages, receiver)
    if ends is None:
        return None
    left_at, received_at = ends
    started_at = min(left_at, received_at)
    detail = f"from stage {_sender(stages, receiver)}"
    return Step(name=HOP, started_at=started_at, ended_at=received_at, detail=detail)


def _ends(stages: Mapping[int, Sequence[Step]], receiver: int) -> tuple[datetime, datetime] | None:
    """When it left its sender, and when it was there, each by its own clock."""
    left = _find(stages.get(_sender(stages, receiver), ()), _LEFT)
    there = _find(stages[receiver], _RECEIVED if receiver else _RETURNED)
    if left is None or there is None:
        return None
    received_at = there.ended_at if receiver else there.started_at
    if left.ended_at is None or received_at is None:
        return None
    return left.ended_at, received_at


def _sender(stages: Mapping[int, Sequence[Step]], receiver: int) -> int:
    return receiver - 1 if receiver else max(stages)


def _find(steps: Sequence[Step], name: str) -> Step | None:
    return next((step for step in steps if step.name == name), None)
