"""What a round can decide about consolidations: values, each with its reason."""

from dataclasses import dataclass

from services.scheduler.policy.decisions import Decision


@dataclass(frozen=True)
class ConsolidationDecision(Decision):
    """Base of these. `node_id`: the entry's."""

    endpoint_id: str
    consolidation_id: str
    node_id: str


@dataclass(frozen=True)
class BeginConsolidation(ConsolidationDecision):
    """The endpoint's entry shall fetch what it lacks, and become the whole endpoint."""

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


@dataclass(frozen=True)
class RecordConsolidation(ConsolidationDecision):
    """Keys and values are on their way to the entry."""


@dataclass(frozen=True)
class AbandonConsolidation(ConsolidationDecision):
    """The endpoint stays a pipeline; its entry has no target any more."""

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
