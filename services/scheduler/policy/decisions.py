"""What a round can decide: values, each with the model that it is about and its reason.

`effects.after` says what each changes in the snapshot, `rounds/apply` which rows and messages it
becomes. One that no longer fits the rows is dropped, and the next round decides anew.
"""

from dataclasses import dataclass

from libs.common.bus.messages import Peer, WorkerObserved
from libs.common.causes import Cause
from libs.common.reasons import Reason
from libs.common.states import LossKind, PrefetchState, StartPurpose
from services.scheduler.policy.failures.backoff import Backoff
from services.scheduler.policy.failures.node_faults import NodeFault
from services.scheduler.policy.failures.start_stall import StartActivity
from services.scheduler.policy.planning.plans import ConsideredPlan, Plan
from services.scheduler.policy.prediction.predictor import Prediction
from services.scheduler.policy.prefetching.prefetch import Prefetch


@dataclass(frozen=True)
class Decision:
    """Base of all decisions: about one model, whose decisions are carried out together or not at
    all."""

    model_id: str


# ---------------------------------------------------------------------- workers


@dataclass(frozen=True)
class RecordWorker(Decision):
    """Write a worker's state and address, as its agent reports them."""

    endpoint_id: str
    observed: WorkerObserved


@dataclass(frozen=True)
class EndWorker(Decision):
    """Mark a worker as ended and free its memory. `cause`: None if it ended as asked."""

    endpoint_id: str
    worker_id: str
    node_id: str
    cause: Cause | None


@dataclass(frozen=True)
class ConnectWorker(Decision):
    """Give a stage the addresses of its two neighbours, which both are known now."""

    endpoint_id: str
    worker_id: str
    node_id: str
    previous: Peer
    following: Peer


@dataclass(frozen=True)
class LaunchWorker(Decision):
    """Let a worker launch that was to wait for its weights, which have arrived."""

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
    prediction: Prediction | None  # what it should come to
    considered: tuple[ConsideredPlan, ...]  # this plan and others, and why they lost
    request_id: str | None  # whose wait made it necessary
    # When its fetches must be done for its target to be met; None: it is missed in any case.
    fetch_deadline_s: float | None = None
    purpose: StartPurpose = StartPurpose.REQUEST


@dataclass(frozen=True)
class HurryStart(Decision):
    """Somebody waits by now for what was started for nobody: its fetches become interactive."""

    endpoint_id: str


@dataclass(frozen=True)
class ServeEndpoint(Decision):
    """Mark an endpoint as serving: every member is ready."""

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
    """Assign an endpoint no more requests; it ends when the last is done."""

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
    """Its keep-alive does not run: it has work."""

    endpoint_id: str


@dataclass(frozen=True)
class MarkIdle(Decision):
    """Its keep-alive runs, since `idle_s` ago."""

    endpoint_id: str
    idle_s: float


@dataclass(frozen=True)
class RenewKeepAlive(Decision):
    """It runs from now on, although nobody has asked."""

    endpoint_id: str


@dataclass(frozen=True)
class AwaitRootCause(Decision):
    """Only neighbours have spoken of a failure so far: whom it began with may still be heard."""

    endpoint_id: str


@dataclass(frozen=True)
class RecordStartActivity(Decision):
    """Remember that a start made progress."""

    endpoint_id: str
    activity: StartActivity


@dataclass(frozen=True)
class EndCommand(Decision):
    """What an operator asked for is done, or can no longer be."""

    command_id: str
    why: str


# --------------------------------------------------------------------- requests


@dataclass(frozen=True)
class AssignRequest(Decision):
    """Give a queued request to an endpoint with a free slot."""

    request_id: str
    attempt: int
    endpoint_id: str


@dataclass(frozen=True)
class CountLoss(Decision):
    """What the end of an endpoint counts as, for a request that it had."""

    request_id: str
    endpoint_id: str
    kind: LossKind


@dataclass(frozen=True)
class EndRequest(Decision):
    """It cannot be served. `message` names the cause and the next step."""

    request_id: str
    attempt: int
    endpoint_id: str | None
    reason: Reason
    message: str
    retry_after_s: int | None = None  # as RequestRefused has it


@dataclass(frozen=True)
class NoteUnlisted(Decision):
    """Its own gateway does not list it (or lists it again): for how long decides."""

    request_id: str
    is_listed: bool


# ------------------------------------------------------------------- prefetches


@dataclass(frozen=True)
class StartPrefetch(Decision):
    """Fetch into a host cache what an endpoint of the model would need there: it is likely to be
    asked soon."""

    prefetch: Prefetch
    why: str


@dataclass(frozen=True)
class EndPrefetch(Decision):
    """It is complete, or it has ended: in which state, and why. Unless it is complete nothing is
    kept for it any more."""

    prefetch_id: str
    node_id: str
    state: PrefetchState
    why: str


@dataclass(frozen=True)
class DeferPrefetch(Decision):
    """Nothing of the model is prefetched now; it is looked at again then."""

    until_s: float
    why: str


# ------------------------------------------------------------------------- room


@dataclass(frozen=True)
class ClaimRoom(Decision):
    """What comes free for the model is kept from those behind it; `is_held`: also what is not
    being freed yet. `plan`: None gives the claim up."""

    plan: Plan | None
    is_held: bool = False


@dataclass(frozen=True)
class Wait(Decision):
    """Nothing can be done for the model in this round. `reason`: what its requests are told if
    their deadline passes meanwhile; None: that it has passed."""

    why: str
    reason: Reason | None = None


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
