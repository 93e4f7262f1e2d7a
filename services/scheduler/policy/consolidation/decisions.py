"""What a round can decide about consolidations: values, each with its reason."""

from dataclasses import dataclass

from services.scheduler.policy.decisions import Decision


@dataclass(frozen=True)
class ConsolidationDecision(Decision):
    """Base of these. `node_id`: the worker's."""

    endpoint_id: str
    consolidation_id: str
    node_id: str


@dataclass(frozen=True)
class BeginConsolidation(ConsolidationDecision):
    """A worker shall fetch what it lacks: the entry, to become the whole endpoint; or, where
    `is_scale_up`, another one, to become an endpoint of its own."""

    worker_id: str
    generation: int
    fetch_id: str
    unit_digests: tuple[str, ...]  # that it lacks, in the order in which it needs them
    num_layers: int  # of the model
    load_bytes: int  # of those units
    freed_bytes: int  # that the others hold of devices
    kv_bytes: int  # of all layers
    expected_s: float  # predicted
    timeout_s: float  # for the weights to come
    why: str
    is_scale_up: bool = False


@dataclass(frozen=True)
class RecordConsolidation(ConsolidationDecision):
    """Keys and values are on their way to the entry."""


@dataclass(frozen=True)
class AbandonConsolidation(ConsolidationDecision):
    """The worker has no target any more. If it is the entry, the endpoint stays a pipeline; if it
    was left of a pipeline, it ends."""

    why: str
    counts: bool  # as a try: the next one may begin after a back-off only


@dataclass(frozen=True)
class CompleteConsolidation(ConsolidationDecision):
    """The entry is the whole endpoint. Where nobody has it on record that it should be,
    `consolidation_id` is a new one."""

    worker_id: str
    generation: int
    unit_digests: tuple[str, ...]  # of the whole model, in the order in which a worker needs them
    num_layers: int
    freed_bytes: int
    kv_bytes: int
    why: str


@dataclass(frozen=True)
class SeparateWorker(ConsolidationDecision):
    """A worker that is left of a pipeline has the whole model: it is an endpoint of its own."""

    worker_id: str
    child_id: str  # of that endpoint
    generation: int  # of both, which the worker has reached
    unit_digests: tuple[str, ...]  # of the whole model, in the order in which a worker needs them
    num_layers: int
    kv_bytes: int
    why: str
