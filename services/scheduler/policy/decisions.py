"""What a round can decide: values, each with the model that it is about and its reason.

`effects.after` says what each changes in the snapshot, `rounds/apply` which rows and messages it
becomes. One that no longer fits the rows is dropped, and the next round decides anew.
"""

from dataclasses import dataclass

from libs.common.bus.messages import Peer, WorkerObserved
from libs.common.causes import Cause
from libs.common.states import RequestOutcome
from services.scheduler.policy.failures.backoff import Backoff
from services.scheduler.policy.failures.node_faults import NodeFault
from services.scheduler.policy.failures.start_deadline import Movement
from services.scheduler.policy.planning.plans import Considered, Plan


@dataclass(frozen=True)
class Decision:
    """Decisions about one model are carried out together or not at all."""

    model_id: str


# ---------------------------------------------------------------------- workers


@dataclass(frozen=True)
class RecordWorker(Decision):
    """Its agent says something new of it."""

    endpoint_id: str
    observed: WorkerObserved


@dataclass(frozen=True)
class EndWorker(Decision):
    """Its process is gone, its memory is free. `cause`: None if it ended as asked."""

    endpoint_id: str
    worker_id: str
    node_id: str
    cause: Cause | None


@dataclass(frozen=True)
class LinkWorker(Decision):
    """Both neighbours have said where they listen: tell it."""

    endpoint_id: str
    worker_id: str
    node_id: str
    previous: Peer
    following: Peer


@dataclass(frozen=True)
class LaunchWorker(Decision):
    """Its weights are there, for which it was to wait."""

    endpoint_id: str
    worker_id: str
    node_id: str


# -------------------------------------------------------------------- endpoints


@dataclass(frozen=True)
class PlannedWorker:
    """Ids of what a stage of the plan becomes."""

    worker_id: str
    fetch_id: str


@dataclass(frozen=True)
class StartEndpoint(Decision):
    """Reserve and start what the plan says, one worker for each of its stages."""

    endpoint_id: str
    cold_start_id: str
    workers: tuple[PlannedWorker, ...]
    plan: Plan
    considered: tuple[Considered, ...]  # other plans, and why they lost
    request_id: str | None  # whose wait made it necessary


@dataclass(frozen=True)
class ServeEndpoint(Decision):
    """Every member is ready."""

    endpoint_id: str
    bytes_from_cache: int
    is_idle: bool  # no request was given to it


@dataclass(frozen=True)
class FailEndpoint(Decision):
    """Release everything. The model backs off if it is to blame, or its nodes rest if they are."""

    endpoint_id: str
    cause: Cause
    guilty_worker_id: str | None
    suspect_nodes: frozenset[str]  # of the guilty worker; the model avoids them for a while
    backoff: Backoff | None
    node_fault: NodeFault | None


@dataclass(frozen=True)
class DrainEndpoint(Decision):
    """Take nothing new, end what runs."""

    endpoint_id: str
    why: str


@dataclass(frozen=True)
class StopWorkers(Decision):
    """Nothing of the endpoint is wanted any more: its workers shall end. `cause` is for the record
    of a start that did not come to serve."""

    endpoint_id: str
    cause: Cause | None


@dataclass(frozen=True)
class FinishEndpoint(Decision):
    """Every worker of a drained endpoint is gone."""

    endpoint_id: str


@dataclass(frozen=True)
class MarkBusy(Decision):
    endpoint_id: str


@dataclass(frozen=True)
class MarkIdle(Decision):
    endpoint_id: str
    idle_s: float


@dataclass(frozen=True)
class AwaitRootCause(Decision):
    """Only neighbours have spoken of a failure so far: whom it began with may still be heard."""

    endpoint_id: str


@dataclass(frozen=True)
class NoteMovement(Decision):
    """The start has moved."""

    endpoint_id: str
    movement: Movement


# --------------------------------------------------------------------- requests


@dataclass(frozen=True)
class AssignRequest(Decision):
    request_id: str
    attempt: int
    endpoint_id: str


@dataclass(frozen=True)
class EndRequest(Decision):
    """It cannot be served. `message` names the cause and the next step."""

    request_id: str
    attempt: int
    endpoint_id: str | None
    outcome: RequestOutcome
    code: str  # as RequestRefused has it
    message: str


@dataclass(frozen=True)
class NoteUnlisted(Decision):
    """Its own gateway does not list it (or lists it again): for how long decides."""

    request_id: str
    is_listed: bool


# ------------------------------------------------------------------------- room


@dataclass(frozen=True)
class ClaimRoom(Decision):
    """What comes free for the model is kept from those behind it; `is_held`: also what is not
    being freed yet. `plan`: None gives the claim up."""

    plan: Plan | None
    is_held: bool = False


@dataclass(frozen=True)
class Wait(Decision):
    """Nothing can be done for the model in this round."""

    why: str


@dataclass(frozen=True)
class SkipNode(Decision):
    """What is known of the node makes no sense: nothing is planned there in this round.

    It is about no model in particular.
    """

    node_id: str
    error: str


@dataclass(frozen=True)
class SkipModel(Decision):
    """Deciding about it failed by a bug or by bad data: it costs this model this round."""

    error: str
