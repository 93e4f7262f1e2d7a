"""Hidden states on their way between stages, worked out from what both ends have told. Pure.

A stage tells when its part of the first prefill left it, the next one when that was there, each by
its own node's clock: a hop's length is wrong by as much as the clocks differ, and one that would
end before it begins takes no time.
"""

from collections.abc import Mapping, Sequence

from libs.common.bus.messages import Step
from libs.common.observability.timeline import HOP

_LEFT, _RECEIVED, _RETURNED = "prefill", "prefill.received", "head"


def hops(stages: Mapping[int, Sequence[Step]]) -> dict[int, Step]:
    """By the receiving stage, those that both ends have told; the last stage sends to stage 0."""
    if len(stages) < 2:
        return {}
    found = {index: _hop(stages, index) for index in stages}
    return {index: hop for index, hop in found.items() if hop is not None}


def _hop(stages: Mapping[int, Sequence[Step]], receiver: int) -> Step | None:
    sender = receiver - 1 if receiver else max(stages)
    left = _find(stages.get(sender, ()), _LEFT)
    there = _find(stages[receiver], _RECEIVED if receiver else _RETURNED)
    if left is None or there is None:
        return None
    received_at = there.ended_at if receiver else there.started_at
    if left.ended_at is None or received_at is None:
        return None
    started_at = min(left.ended_at, received_at)
    detail = f"from stage {sender}"
    return Step(name=HOP, started_at=started_at, ended_at=received_at, detail=detail)


def _find(steps: Sequence[Step], name: str) -> Step | None:
    return next((step for step in steps if step.name == name), None)
