"""What happens next to a worker that is to become an endpoint of its own. Pure: its state machine,
as a table of transitions.

none → LOADING → COMPLETE, and ABANDONED from LOADING. It is a stage of its pipeline until the entry
has switched; where it has not all layers by then it is left of it, and goes on. It ends FAILED with
its endpoint or its process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from libs.common.states import ConsolidationState


class Action(StrEnum):
    BEGIN = "begin"  # the worker gets a target
    SEPARATE = "separate"  # it is an endpoint of its own
    ABANDON = "abandon"  # it has no target any more, and that counts as a try
    WITHDRAW = "withdraw"  # the same, and nobody is to blame


@dataclass(frozen=True)
class Situation:
    """Facts about a worker at one moment."""

    has_switched: bool = False  # it is a whole model, and its pipeline has ended
    is_serving: bool = True  # its endpoint
    is_allowed: bool = True  # by the scheduler's settings
    is_for_nothing: bool = False  # its pipeline stays one
    given_up: str | None = None  # why it abandoned, as it says
    failed_fetch: str | None = None  # why its layers cannot be had
    is_overdue: bool = False
    reason: str | None = None  # to begin now; None: not now


@dataclass(frozen=True)
class Transition:
    """From having an open one, or None, when the condition holds."""

    states: frozenset[ConsolidationState | None]
    action: Action
    condition: Callable[[Situation], bool]
    meaning: str
    detail: Callable[[Situation], str | None] = lambda situation: None

    def why(self, situation: Situation) -> str:
        detail = self.detail(situation)
        return self.meaning if not detail else f"{self.meaning}: {detail}"


NONE: frozenset[ConsolidationState | None] = frozenset({None})
OPEN: frozenset[ConsolidationState | None] = frozenset(
    state for state in ConsolidationState if state.is_open
)

# The first that applies is made.
TRANSITIONS: tuple[Transition, ...] = (
    Transition(OPEN, Action.WITHDRAW, lambda s: not s.is_serving, "its endpoint takes no more"),
    Transition(
        OPEN, Action.SEPARATE, lambda s: s.has_switched, "it has all layers, and its pipeline ended"
    ),
    Transition(
        OPEN, Action.WITHDRAW, lambda s: not s.is_allowed, "pipelines are not consolidated any more"
    ),
    Transition(OPEN, Action.WITHDRAW, lambda s: s.is_for_nothing, "its pipeline stays one"),
    Transition(
        OPEN,
        Action.ABANDON,
        lambda s: s.given_up is not None,
        "its worker gave up",
        lambda s: s.given_up,
    ),
    Transition(
        OPEN,
        Action.ABANDON,
        lambda s: s.failed_fetch is not None,
        "its layers could not be fetched",
        lambda s: s.failed_fetch,
    ),
    Transition(OPEN, Action.ABANDON, lambda s: s.is_overdue, "it has not all layers in time"),
    Transition(NONE, Action.BEGIN, lambda s: s.reason is not None, "it is needed"),
)


def next_transition(state: ConsolidationState | None, situation: Situation) -> Transition | None:
    """The transition that is due, or None to leave all as it is."""
    return next((t for t in TRANSITIONS if state in t.states and t.condition(situation)), None)
