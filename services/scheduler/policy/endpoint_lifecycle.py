"""What happens to an endpoint next. Pure: its state machine in one place.

STARTING → PIPELINED | STANDALONE → DRAINING → STOPPED, and FAILED from anywhere before.
"""

from dataclasses import dataclass
from enum import StrEnum

from libs.common.causes import Cause, CauseKind
from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Endpoint


class Move(StrEnum):
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
    is_outgrown: bool = False  # its model's context has become longer than its own
    is_unwanted: bool = False  # nobody waits for the start, or the model is being deleted
    is_idle_for_long: bool = False  # keep-alive is over, or its memory is needed elsewhere
    is_drained: bool = False  # its workers say that they are draining and have nothing left


@dataclass(frozen=True)
class Verdict:
    move: Move
    cause: Cause | None = None
    guilty_id: str | None = None


def judge(endpoint: Endpoint, situation: Situation) -> Verdict | None:
    """The next move, or None to leave it as it is."""
    if endpoint.state.is_finished:
        return None
    if situation.failure is not None:
        return Verdict(Move.FAIL, situation.failure, situation.guilty_id)
    if endpoint.state is EndpointState.DRAINING:
        return _judge_draining(endpoint, situation)
    if endpoint.state.is_serving:
        must_go = situation.is_unwanted or situation.is_outgrown or situation.is_idle_for_long
        return Verdict(Move.DRAIN) if must_go else None
    return _judge_starting(situation)


def _judge_starting(situation: Situation) -> Verdict | None:
    if situation.are_all_ready:
        return Verdict(Move.SERVE)
    if situation.is_outgrown:
        return Verdict(Move.RELEASE, Cause(CauseKind.STALE_CONTEXT))
    if situation.is_unwanted:
        return Verdict(Move.RELEASE)
    if situation.is_stuck:
        progress = situation.progress or None
        return Verdict(Move.FAIL, Cause.of(CauseKind.START_STALLED, progress=progress))
    return None


def _judge_draining(endpoint: Endpoint, situation: Situation) -> Verdict | None:
    if situation.are_all_gone:
        return Verdict(Move.STOP)
    if endpoint.is_released:
        return None
    return Verdict(Move.RELEASE) if situation.is_drained else None
