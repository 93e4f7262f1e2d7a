"""What a decision looks like: stages with everything that their workers will be told. Pure."""

from dataclasses import dataclass
from math import ceil

from libs.common.bus.messages import LayerRange, UnitSummary
from libs.common.states import MemberMemory
from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.planning.memory import full_bytes, stage_kv_bytes
from services.scheduler.policy.planning.offers import Offer, ready_s
from services.scheduler.policy.prediction.predictor import Prediction, StageForecast
from services.scheduler.policy.prediction.slowdown import StageShare


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
    rate_bytes_per_s: float  # its part of its node's present share of the network
    has_standby: bool = False  # a process that has imported everything waits there
    launch_s: float = 0.0  # predicted, until its process can compute if its weights are there
    worker_bytes: int = 0  # what its process takes of the device beside weights and KV cache
    tail_s: float = 0.0  # predicted, from the last byte until it can compute
    # Of a full-memory worker: what is kept for the layers that it does not have yet.
    spare_bytes: int = 0
    compute_share: float = 1.0  # predicted, of its device's compute
    memory: MemberMemory = MemberMemory.LOW

    @property
    def is_cached(self) -> bool:
        """Nothing of it has to be fetched."""
        return self.cached_bytes == self.weight_bytes

    @property
    def fetch_s(self) -> float:
        """Predicted."""
        return (self.weight_bytes - self.cached_bytes) / self.rate_bytes_per_s

    @property
    def start_s(self) -> float:
        """Predicted, until it can compute."""
        return ready_s(self.fetch_s, self.launch_s, self.tail_s)

    def forecast(self, model_bytes: int) -> StageForecast:
        """As the predictor sees it; `model_bytes`: weights and KV cache of the whole model."""
        return StageForecast(
            runtime_s=self.launch_s,
            missing_bytes=self.weight_bytes - self.cached_bytes,
            rate_bytes_per_s=self.rate_bytes_per_s,
            tail_s=self.tail_s,
            device_bytes=self.device_bytes,
            share=StageShare(
                (self.weight_bytes + self.kv_bytes) / max(1, model_bytes), self.compute_share
            ),
        )

    @property
    def unit_digests(self) -> tuple[str, ...]:
        return tuple(unit.digest for unit in self.units)

    @property
    def device_bytes(self) -> int:
        """Reserved for its worker."""
        return self.planned_bytes + self.worker_bytes

    @property
    def planned_bytes(self) -> int:
        """Without what its process takes itself."""
        return self.weight_bytes + self.kv_bytes + self.spare_bytes


@dataclass(frozen=True)
class Plan:
    stages: tuple[StagePlan, ...]

    @property
    def num_full(self) -> int:
        """Workers with memory for the whole model."""
        return sum(stage.memory is MemberMemory.FULL for stage in self.stages)

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
    rate_bytes_per_s: float,
    has_standby: bool,
    memory: MemberMemory = MemberMemory.LOW,
) -> StagePlan:
    model, summary, device = deployable.model, deployable.summary, offer.device
    units = [unit for unit in summary.units if _is_of(unit, index, layers)]
    weight_bytes = sum(unit.size_bytes for unit in units)
    cached = [unit.size_bytes for unit in units if unit.digest in offer.cached]
    kv_bytes = stage_kv_bytes(model, summary, layers.last_layer - layers.first_layer)
    whole_bytes = full_bytes(model, summary)
    spare_bytes = whole_bytes - weight_bytes - kv_bytes if memory is MemberMemory.FULL else 0
    planned_bytes = weight_bytes + kv_bytes + spare_bytes
    share = planned_bytes / device.memory_bytes
    return StagePlan(
        node_id=offer.node.id,
        device_index=device.index,
        layers=layers,
        units=tuple(sorted(units, key=reading_order)),
        weight_bytes=weight_bytes,
        cached_bytes=sum(cached),
        kv_bytes=kv_bytes,
        cores=min(device.cores, max(1, ceil(device.cores * share))),
        rate_bytes_per_s=rate_bytes_per_s,
        has_standby=has_standby,
        launch_s=offer.launch_s(has_standby),
        worker_bytes=device.worker_bytes,
        tail_s=offer.node.tail_s,
        spare_bytes=spare_bytes,
        compute_share=offer.compute_share(planned_bytes),
        memory=memory,
    )


def _is_of(unit: UnitSummary, stage_index: int, layers: LayerRange) -> bool:
    """Stage 0 has whatever is no layer: it embeds, and it samples."""
    if unit.layer is None:
        return stage_index == 0
    return layers.first_layer <= unit.layer < layers.last_layer


def reading_order(unit: UnitSummary) -> tuple[int, int]:
    """Embedding, layers, final norm, head: a forward pass reads them like this."""
    kinds = ("embedding", "layer", "final_norm", "lm_head")
    return (kinds.index(unit.kind), unit.layer or 0)


@dataclass(frozen=True)
class ConsideredPlan:
    """A plan that was looked at, in figures. `num_full`: of its workers, with memory for the whole
    model."""

    num_stages: int
    num_full: int
    node_ids: tuple[str, ...]  # in the order of the stages; none where no devices were found
    prediction: Prediction | None  # None: it is not possible now
    is_estimate: bool  # its layers were not cut: no plan of this shape can be better than this
    verdict: str  # why it was taken, or why it lost
