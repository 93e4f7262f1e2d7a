"""What happens to an endpoint next. Pure: its state machine, as a table of transitions.

STARTING → PIPELINED | STANDALONE → DRAINING → STOPPED, and FAILED from anywhere before.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from libs.common.causes import Cause, CauseKind
from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint


class Action(StrEnum):
    FAIL = "fail"  # release everything, with a cause
    SERVE = "serve"  # every worker is ready
    DRAIN = "drain"  # take nothing new
    RELEASE = "release"  # nothing runs any more: let the workers end
    STOP = "stop"  # every worker is gone


@dataclass(frozen=True)
class Situation:
    """Facts about an endpoint at one moment."""

    failure: Cause | None = None  # of a worker that is still wanted
    guilty_id: str | None = None  # the worker that the failure began with
    are_all_ready: bool = False
    are_all_gone: bool = False
    is_stuck: bool = False  # its start has stood still for the start timeout
    progress: str = ""  # how far it came
    has_stale_context: bool = False  # its model's context has become longer than its own
    is_unwanted: bool = False  # nobody waits for the start, or the model is being deleted
    is_idle_for_long: bool = False  # keep-alive is over, or its memory is needed elsewhere
    is_drained: bool = False  # its workers say that they are draining and have nothing left
    is_released: bool = False  # its workers were told to end


@dataclass(frozen=True)
class DueAction:
    action: Action
    cause: Cause | None = None
    guilty_id: str | None = None
    meaning: str = ""  # why, in words


@dataclass(frozen=True)
class Transition:
    """From one of `states`, when the condition holds."""

    states: frozenset[EndpointState]
    action: Action
    condition: Callable[[Situation], bool]
    meaning: str
    cause: Callable[[Situation], Cause | None] = lambda situation: None


STARTING = frozenset({EndpointState.PLANNED, EndpointState.STARTING})
SERVING = frozenset(state for state in EndpointState if state.is_serving)
DRAINING = frozenset({EndpointState.DRAINING})
LIVE = STARTING | SERVING | DRAINING

# The first that applies is made.
TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        LIVE,
        Action.FAIL,
        lambda s: s.failure is not None,
        "a member was lost that should not have been",
        lambda s: s.failure,
    ),
    Transition(DRAINING, Action.STOP, lambda s: s.are_all_gone, "all its workers have ended"),
    Transition(
        DRAINING,
        Action.RELEASE,
        lambda s: s.is_drained and not s.is_released,
        "its last request has ended",
    ),
    Transition(SERVING, Action.DRAIN, lambda s: s.is_unwanted, "its model is being deleted"),
    Transition(SERVING, Action.DRAIN, lambda s: s.has_stale_context, "its context is too short"),
    Transition(SERVING, Action.DRAIN, lambda s: s.is_idle_for_long, "idle for its keep-alive"),
    Transition(STARTING, Action.SERVE, lambda s: s.are_all_ready, "every member is ready"),
    Transition(
        STARTING,
        Action.RELEASE,
        lambda s: s.has_stale_context,
        "its context is shorter than promised",
        lambda s: Cause(CauseKind.STALE_CONTEXT),
    ),
    Transition(STARTING, Action.RELEASE, lambda s: s.is_unwanted, "nobody waits for it any more"),
    Transition(
        STARTING,
        Action.FAIL,
        lambda s: s.is_stuck,
        "nothing of it has moved for the start timeout",
        lambda s: Cause.of(CauseKind.START_STALLED, progress=s.progress or None),
    ),
)


def next_transition(state: EndpointState, situation: Situation) -> Transition | None:
    """The transition that is due, or None to leave the endpoint as it is."""
    return next((t for t in TRANSITIONS if state in t.states and t.condition(situation)), None)


def due_action(endpoint: Endpoint, situation: Situation) -> DueAction | None:
    """The next move, with whose fault it is where it is a failure of a worker."""
    if situation.is_released is not endpoint.is_released:
        situation = replace(situation, is_released=endpoint.is_released)
    due = next_transition(endpoint.state, situation)
    if due is None:
        return None
    cause = due.cause(situation)
    if situation.failure is not None:
        return DueAction(due.action, cause, situation.guilty_id, due.meaning)
    return DueAction(due.action, cause, meaning=due.meaning)
