"""What a decision looks like: stages with everything that their workers will be told. Pure."""

from dataclasses import dataclass
from math import ceil

from libs.common.bus.messages import LayerRange, UnitSummary
from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.planning.memory import stage_kv_bytes
from services.scheduler.policy.planning.offers import Offer, ready_s


@dataclass(frozen=True)
class StagePlan:
    node_id: str
    device_index: int
    layers: LayerRange
    units: tuple[UnitSummary, ...]  # in the order in which the worker needs them
    weight_bytes: int
    cached_bytes: int  # of weight_bytes, in the node's host cache already
    kv_bytes: int
    cores: int
    fetch_s: float  # predicted, at the node's present share of its network
    has_standby: bool = False  # a process that has imported everything waits there
    launch_s: float = 0.0  # predicted, of its process; 0 with a standby
    worker_bytes: int = 0  # what its process takes of the device beside weights and KV cache

    @property
    def start_s(self) -> float:
        """Predicted, until it can compute."""
        return ready_s(self.fetch_s, self.launch_s)

    @property
    def unit_digests(self) -> tuple[str, ...]:
        return tuple(unit.digest for unit in self.units)

    @property
    def device_bytes(self) -> int:
        return self.weight_bytes + self.kv_bytes + self.worker_bytes


@dataclass(frozen=True)
class Plan:
    stages: tuple[StagePlan, ...]

    @property
    def weight_bytes(self) -> int:
        return sum(stage.weight_bytes for stage in self.stages)

    @property
    def fetch_s(self) -> float:
        return max(stage.fetch_s for stage in self.stages)

    @property
    def start_s(self) -> float:
        return max(stage.start_s for stage in self.stages)


@dataclass(frozen=True)
class NoRoom:
    """The room on devices and in host caches does not suffice now. Whether it ever can is
    `fits_in`'s question."""

    needed_bytes: int
    largest_free_bytes: int


def plan_stage(
    offer: Offer,
    deployable: Deployable,
    index: int,
    layers: LayerRange,
    fetch_s: float,
    has_standby: bool,
) -> StagePlan:
    model, summary, device = deployable.model, deployable.summary, offer.device
    units = [unit for unit in summary.units if _is_of(unit, index, layers)]
    weight_bytes = sum(unit.size_bytes for unit in units)
    cached = [unit.size_bytes for unit in units if unit.digest in offer.cached]
    kv_bytes = stage_kv_bytes(model, summary, layers.last_layer - layers.first_layer)
    share = (weight_bytes + kv_bytes) / device.memory_bytes
    return StagePlan(
        node_id=offer.node.id,
        device_index=device.index,
        layers=layers,
        units=tuple(sorted(units, key=_reading_order)),
        weight_bytes=weight_bytes,
        cached_bytes=sum(cached),
        kv_bytes=kv_bytes,
        cores=min(device.cores, max(1, ceil(device.cores * share))),
        fetch_s=fetch_s,
        has_standby=has_standby,
        launch_s=0.0 if has_standby else device.launch_s,
        worker_bytes=device.worker_bytes,
    )


def _is_of(unit: UnitSummary, stage_index: int, layers: LayerRange) -> bool:
    """Stage 0 has whatever is no layer: it embeds, and it samples."""
    if unit.layer is None:
        return stage_index == 0
    return layers.first_layer <= unit.layer < layers.last_layer


def _reading_order(unit: UnitSummary) -> tuple[int, int]:
    """Embedding, layers, final norm, head: a forward pass reads them like this."""
    kinds = ("embedding", "layer", "final_norm", "lm_head")
    return (kinds.index(unit.kind), unit.layer or 0)


@dataclass(frozen=True)
class RejectedPlan:
    """A plan that was looked at and not taken, in figures."""

    num_stages: int
    node_ids: tuple[str, ...]
    start_s: float  # predicted
    fetch_s: float
    why_not: str
