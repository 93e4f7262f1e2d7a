"""Endpoints that nobody waits for, and why they start all the same. Pure.

They come after everything that somebody waits for, and their fetches are of the background class,
until somebody does. One that is started ahead takes what is free and nothing else: nobody gives way
to it, and it gives way to anybody, also while it starts.
"""

from dataclasses import dataclass
from math import inf

from libs.common.states import ModelCommandKind, StartPurpose
from services.scheduler.policy.cluster import Model
from services.scheduler.policy.scaling.activity import ModelActivity

MAX_AHEAD = 200  # models of which an endpoint may start ahead, in one sweep


@dataclass(frozen=True)
class ModelCommand:
    """What an operator asked for once."""

    id: str
    model_id: str
    kind: ModelCommandKind
    deadline_at_s: float

    def is_over(self, now_s: float) -> bool:
        return now_s >= self.deadline_at_s


def unasked_start(
    model: Model,
    activity: ModelActivity,
    commands: tuple[ModelCommand, ...],
    num_future: int,
    now_s: float,
) -> StartPurpose | None:
    """Of the next endpoint of the model, which has so many. None: it needs none that nobody waits
    for."""
    if num_future < min(model.min_endpoints, model.max_endpoints):
        return StartPurpose.MINIMUM
    if num_future:
        return None
    if any(c.kind is ModelCommandKind.PRELOAD and not c.is_over(now_s) for c in commands):
        return StartPurpose.PRELOAD
    is_ahead = model.is_keep_alive_auto and is_expected(activity, now_s)
    return StartPurpose.AHEAD if is_ahead else None


def is_expected(activity: ModelActivity, now_s: float) -> bool:
    """By its own gaps, so soon that an endpoint is to start."""
    from_s, until_s = activity.ahead_at_s, activity.ahead_until_s
    return from_s is not None and until_s is not None and from_s <= now_s < until_s


def next_ahead_s(activity: ModelActivity, now_s: float) -> float:
    """When time alone makes it expected, or not any more."""
    moments = (activity.ahead_at_s, activity.ahead_until_s)
    return min((at_s for at_s in moments if at_s is not None and at_s > now_s), default=inf)
