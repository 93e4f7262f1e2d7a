"""What happens to a consolidation next. Pure: its state machine, as a table of transitions.

none → LOADING → COPYING → COMPLETE; ABANDONED from LOADING and COPYING, and back to none. It ends
FAILED with its endpoint, whose own table says when (`endpoint_lifecycle.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from libs.common.states import ConsolidationState


class Action(StrEnum):
    BEGIN = "begin"  # the entry gets a target
    RECORD = "record"  # it has all layers, and copies
    COMPLETE = "complete"  # it is the whole endpoint
    ABANDON = "abandon"  # it has no target any more, and that counts as a try
    WITHDRAW = "withdraw"  # the same, and nobody is to blame


@dataclass(frozen=True)
class Situation:
    """Facts about an endpoint at one moment."""

    has_switched: bool = False  # its entry has reached a later generation than its row says
    is_serving: bool = True
    is_allowed: bool = True  # by the scheduler's settings
    given_up: str | None = None  # why its entry abandoned, as that says
    failed_fetch: str | None = None  # why its layers cannot be had
    is_copying: bool = False  # as its entry says
    is_overdue: bool = False
    ends_before: bool = False  # its keep-alive is over before it would be one worker
    reason: str | None = None  # to begin now; None: not now


@dataclass(frozen=True)
class Transition:
    """From one of `states`, None being that it has no consolidation, when the condition holds."""

    states: frozenset[ConsolidationState | None]
    action: Action
    condition: Callable[[Situation], bool]
    meaning: str
    detail: Callable[[Situation], str | None] = lambda situation: None

    def why(self, situation: Situation) -> str:
        detail = self.detail(situation)
        return self.meaning if not detail else f"{self.meaning}: {detail}"


NONE: frozenset[ConsolidationState | None] = frozenset({None})
LOADING: frozenset[ConsolidationState | None] = frozenset({ConsolidationState.LOADING})
OPEN: frozenset[ConsolidationState | None] = frozenset(
    state for state in ConsolidationState if state.is_open
)

# The first that applies is made.
TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        NONE | OPEN,
        Action.COMPLETE,
        lambda s: s.has_switched,
        "its entry is the whole endpoint",
    ),
    Transition(OPEN, Action.WITHDRAW, lambda s: not s.is_serving, "the endpoint takes no more"),
    Transition(
        OPEN, Action.WITHDRAW, lambda s: not s.is_allowed, "pipelines are not consolidated any more"
    ),
    Transition(
        OPEN,
        Action.ABANDON,
        lambda s: s.given_up is not None,
        "its entry gave up",
        lambda s: s.given_up,
    ),
    Transition(
        LOADING,
        Action.ABANDON,
        lambda s: s.failed_fetch is not None,
        "its layers could not be fetched",
        lambda s: s.failed_fetch,
    ),
    Transition(
        LOADING,
        Action.WITHDRAW,
        lambda s: s.ends_before,
        "nobody asks, and its keep-alive would be over first",
    ),
    Transition(OPEN, Action.ABANDON, lambda s: s.is_overdue, "it has not switched in time"),
    Transition(
        LOADING, Action.RECORD, lambda s: s.is_copying, "keys and values are on their way to it"
    ),
    Transition(NONE, Action.BEGIN, lambda s: s.reason is not None, "it is worth it"),
)


def next_transition(state: ConsolidationState | None, situation: Situation) -> Transition | None:
    """The transition that is due, or None to leave all as it is."""
    return next((t for t in TRANSITIONS if state in t.states and t.condition(situation)), None)
