"""The states that rows, messages and the API share, each with its meaning beside it."""

from enum import StrEnum


class ModelState(StrEnum):
    IMPORTING = "IMPORTING"  # a fetcher repacks the source into units
    READY = "READY"  # its units are stored; it can be asked
    FAILED = "FAILED"  # the import ended with a cause
    DELETING = "DELETING"  # gone for clients; its endpoints are draining


class EndpointState(StrEnum):
    PLANNED = "PLANNED"  # memory is reserved, nothing was sent yet
    STARTING = "STARTING"  # its workers are fetching, launching, loading
    PIPELINED = "PIPELINED"  # serves as a pipeline of several stages
    CONSOLIDATING = "CONSOLIDATING"  # serves as a pipeline while layers move
    STANDALONE = "STANDALONE"  # one worker holds the whole model and serves
    DRAINING = "DRAINING"  # takes nothing new, ends what runs
    STOPPED = "STOPPED"  # its workers are gone, its memory is free
    FAILED = "FAILED"  # ended with a cause; its memory is free

    @property
    def is_serving(self) -> bool:
        return self in (
            EndpointState.PIPELINED,
            EndpointState.CONSOLIDATING,
            EndpointState.STANDALONE,
        )

    @property
    def is_finished(self) -> bool:
        return self in (EndpointState.STOPPED, EndpointState.FAILED)

    @property
    def can_take_requests(self) -> bool:
        """A starting endpoint takes requests too: its first stage holds them until it can run."""
        return self.is_serving or self is EndpointState.STARTING


class WorkerState(StrEnum):
    PLANNED = "PLANNED"  # in the node's desired state, not seen yet
    LAUNCHING = "LAUNCHING"  # its process was started
    REGISTERED = "REGISTERED"  # it told its data address and public key
    READY = "READY"  # its weights are in place, it executes
    DRAINING = "DRAINING"  # it refuses new requests and ends what runs
    STOPPED = "STOPPED"  # ended as asked
    FAILED = "FAILED"  # ended by itself or could not start; has a cause

    @property
    def is_finished(self) -> bool:
        return self in (WorkerState.STOPPED, WorkerState.FAILED)


class FetchState(StrEnum):
    QUEUED = "QUEUED"  # accepted, waits for room in the host cache
    FETCHING = "FETCHING"  # bytes arrive
    COMPLETE = "COMPLETE"  # every unit is present and verified
    FAILED = "FAILED"  # has a cause that names the object


class FetchClass(StrEnum):
    INTERACTIVE = "interactive"  # a cold start waits for it; shares the NIC fairly
    BACKGROUND = "background"  # gets what interactive leaves


class RequestState(StrEnum):
    QUEUED = "QUEUED"  # accepted, no endpoint yet
    ASSIGNED = "ASSIGNED"  # the gateway was told an endpoint
    ENDED = "ENDED"  # has an end time and an outcome


class RequestOutcome(StrEnum):
    """Why a request ended."""

    STOP = "stop"  # the model or a stop string ended it
    LENGTH = "length"  # max_tokens or the context is used up
    CANCELLED = "cancelled"  # the client went away
    DEADLINE = "deadline"  # its own deadline passed
    CLIENT_TOO_SLOW = "client_too_slow"  # its buffer stayed full for 30 s
    GATEWAY_LOST = "gateway_lost"  # its gateway stopped its heartbeat
    MODEL_FAILED = "model_failed"  # the model was deleted or cannot start
    WORKER_CRASHED = "worker_crashed"  # engines crashed, or nodes were lost, under it too often
    REFUSED = "refused"  # it, or its moment, was wrong: its client was told why
    INTERNAL_ERROR = "internal_error"  # a bug of ours; the log has it


class SloMiss(StrEnum):
    """What most of the time of a request went to that missed its model's SLO."""

    QUEUE = "queue"  # to wait for an endpoint, or for room on one
    COLD_START = "cold_start"  # to wait until one had started
    NETWORK = "network"  # to weights on their way to it, or tokens on their way from it
    PREFILL = "prefill"  # to its prompt, in turns with other requests
    ENGINE = "engine"  # to the tokens after the first
    FAILED = "failed"  # it ended in an error, whatever its time went to: see its outcome


class StartPurpose(StrEnum):
    """Why an endpoint was started."""

    REQUEST = "request"  # somebody waits for it
    MINIMUM = "minimum"  # its model shall always have so many
    PRELOAD = "preload"  # an operator asked for it
    AHEAD = "ahead"  # its model is expected to be asked soon
    LOAD = "load"  # its model is asked so often that those that there are will not do


class ModelCommandKind(StrEnum):
    """What an operator asks for once, of a model."""

    PRELOAD = "preload"  # start an endpoint although nobody waits
    UNLOAD = "unload"  # let its endpoints end what they run, and go


class LossKind(StrEnum):
    """What the end of an endpoint counts as, for a request that it had."""

    ENGINE_CRASH = "engine_crash"  # a process of it ended by itself: perhaps the request is why
    NODE_LOSS = "node_loss"  # its node's fault
    OTHER = "other"  # the network's or the store's, or it had not ended at all: not counted


class FinishReason(StrEnum):
    """Why a worker stopped generating, as the token message says it."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


class ImportState(StrEnum):
    RUNNING = "RUNNING"  # bytes_done grows towards bytes_total
    DONE = "DONE"  # the manifest is stored
    FAILED = "FAILED"  # has a cause; the source must be mended


class EngineChoice(StrEnum):
    """What a model asks for."""

    AUTO = "auto"  # the fastest that is there and supports it
    STAGE = "stage"
    VLLM = "vllm"


class EngineKind(StrEnum):
    """What a worker runs."""

    STAGE = "stage"  # this project's own: stages of a pipeline, or a whole model
    VLLM = "vllm"  # a whole model


class FetchPurpose(StrEnum):
    START = "start"  # a worker that starts waits for the units
    CONSOLIDATION = "consolidation"  # a worker that serves will take more layers
    PREFETCH = "prefetch"  # somebody may ask for the model soon


class ConsolidationPhase(StrEnum):
    """How far an entry stage is on its way to the whole model."""

    LOADING = "loading"  # the layers that it lacks arrive
    COPYING = "copying"  # keys and values of running sequences come from the other stages
    SWITCHED = "switched"  # it is the whole endpoint
    ABANDONED = "abandoned"  # it stays a stage of the pipeline

    @property
    def is_final(self) -> bool:
        return self in (ConsolidationPhase.SWITCHED, ConsolidationPhase.ABANDONED)


class ConsolidationState(StrEnum):
    """Of an endpoint's way from a pipeline to one worker, as the scheduler has it on record."""

    LOADING = "LOADING"  # the entry fetches and loads the layers that it lacks
    COPYING = "COPYING"  # keys and values of running sequences come to it
    COMPLETE = "COMPLETE"  # the entry is the whole endpoint
    ABANDONED = "ABANDONED"  # the endpoint stays a pipeline; it may be tried again
    FAILED = "FAILED"  # a member was lost before the switch: the endpoint failed

    @property
    def is_open(self) -> bool:
        """The entry has a target."""
        return self in (ConsolidationState.LOADING, ConsolidationState.COPYING)


class PrefetchState(StrEnum):
    """Of weights that are fetched into a host cache because a model may be asked soon."""

    RUNNING = "RUNNING"  # part of its node's desired state
    COMPLETE = "COMPLETE"  # there, and its model is still likely to be asked
    USED = "USED"  # an endpoint started where the weights were
    UNUSED = "UNUSED"  # nobody asked in time, or the endpoint started elsewhere
    OVERTAKEN = "OVERTAKEN"  # an endpoint started before it was complete
    FAILED = "FAILED"  # its fetcher could not bring it
    LATE = "LATE"  # not complete by its deadline
    DISPLACED = "DISPLACED"  # others needed the room in the host cache
    UNWANTED = "UNWANTED"  # its model was deleted, imported again, or is not learnt from any more

    @property
    def is_open(self) -> bool:
        """It takes a part of its node's host cache."""
        return self in (PrefetchState.RUNNING, PrefetchState.COMPLETE)


class MemberRole(StrEnum):
    """A worker's part in a generation of its endpoint."""

    ENTRY = "entry"  # has the embedding and the head, owns requests, publishes tokens
    FOLLOWER = "follower"  # computes its layers for the entry


class MemberMemory(StrEnum):
    """What a worker's reservation has room for."""

    FULL = "full"  # the whole model: it can become standalone
    LOW = "low"  # its own layers only
