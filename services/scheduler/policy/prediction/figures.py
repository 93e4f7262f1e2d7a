"""What predictions ask of everything that was measured. Pure.

Which quantile answers: where a start's TTFT depends on it, 0.7, so that a plan that just meets its
SLO does so more often than every second time. Of rates, and of what TPOT depends on, the median: a
rate is lower than the card's own where the store was busy, which the bookkeeping of the network
reckons with itself; and many steps make one TPOT. The ratio of measured to predicted is a median,
too: it takes away what is wrong always, not what varies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from immutables import Map

from libs.common.decode_batches import decode_batch
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.persistent import put
from services.scheduler.policy.prediction.measurements import Measurements
from services.scheduler.policy.prediction.quantities import (
    PRIORS,
    STEPS,
    MeasurementKey,
    Quantity,
    Scope,
)

TTFT_FRACTION = 0.7
# By how much a decode step is longer for each further sequence, until that was measured: 16 of them
# take 1.5 times as long as one on a CPU.
GROWTH_PER_SEQUENCE = 0.03

Measured = Mapping[Quantity, Measurements]
NewValues = Mapping[MeasurementKey, Sequence[float]]  # oldest first
_NONE = Measurements()


def _with(measured: Measured, quantity: Quantity, values: Sequence[float]) -> Measured:
    return put(measured, quantity, measured.get(quantity, _NONE).extend(values))


def _upper(measured: Measured, quantity: Quantity) -> float:
    return measured.get(quantity, _NONE).quantile(TTFT_FRACTION, PRIORS[quantity])


def _middle(measured: Measured, quantity: Quantity) -> float:
    return measured.get(quantity, _NONE).median(PRIORS[quantity])


@dataclass(frozen=True)
class NodeFigures:
    """Another object once anything new was measured there, and the same until then."""

    measured: Measured = field(default_factory=Map)

    @cached_property
    def standby_launch_s(self) -> float:
        return _upper(self.measured, Quantity.STANDBY_LAUNCH_S)

    @cached_property
    def build_s(self) -> float:
        """What a launched process takes beside `Device.launch_s`."""
        return _upper(self.measured, Quantity.BUILD_S)

    @cached_property
    def tail_s(self) -> float:
        return _upper(self.measured, Quantity.TAIL_S)

    @cached_property
    def host_to_device_bytes_per_s(self) -> float:
        return _middle(self.measured, Quantity.HOST_TO_DEVICE_BYTES_PER_S)

    def nic_bytes_per_s(self, assumed: float) -> float:
        """`assumed`: the configured cap, or what stands for it where there is none."""
        return self.measured.get(Quantity.NIC_BYTES_PER_S, _NONE).median(assumed)


@dataclass(frozen=True)
class ClusterFigures:
    measured: Measured = field(default_factory=Map)

    @cached_property
    def hop_s(self) -> float:
        """For a decode step."""
        return _middle(self.measured, Quantity.HOP_S)

    @cached_property
    def prompt_hop_s(self) -> float:
        """For a prefill."""
        return _upper(self.measured, Quantity.PROMPT_HOP_S)

    @cached_property
    def prefill_s_per_token_gb(self) -> float:
        return _middle(self.measured, Quantity.PREFILL_S_PER_TOKEN_GB)

    @cached_property
    def step_s_per_gb(self) -> float:
        return _middle(self.measured, Quantity.STEP_S_PER_GB)

    @cached_property
    def ttft_ratio(self) -> float:
        return _middle(self.measured, Quantity.TTFT_RATIO)


@dataclass(frozen=True)
class ModelFigures:
    """Of one worker that has its device to itself."""

    measured: Measured
    cluster: ClusterFigures
    weight_bytes: int

    @property
    def prefill_s_per_token(self) -> float:
        prior = self.cluster.prefill_s_per_token_gb * self.weight_bytes / 1e9
        values = self.measured.get(Quantity.PREFILL_S_PER_TOKEN, _NONE)
        return values.quantile(TTFT_FRACTION, prior)

    def step_s(self, num_sequences: int = 1) -> float:
        """A decode step."""
        batch = decode_batch(num_sequences)
        if batch == 1:
            prior = self.cluster.step_s_per_gb * self.weight_bytes / 1e9
        else:
            prior = self.step_s() * (1 + GROWTH_PER_SEQUENCE * (batch - 1))
        return self.measured.get(STEPS[batch], _NONE).median(prior)

    @property
    def ttft_ratio(self) -> float:
        """By what a predicted TTFT is to be multiplied."""
        values = self.measured.get(Quantity.TTFT_RATIO, _NONE)
        return values.median(self.cluster.ttft_ratio)


_UNMEASURED = NodeFigures()


@dataclass(frozen=True)
class Figures:
    """By node, by model, and of the cluster. Of models only those that run or are asked for: one
    that has an entry, though nothing was measured of it, is known."""

    nodes: Mapping[str, NodeFigures] = field(default_factory=Map)
    models: Mapping[str, Measured] = field(default_factory=Map)
    cluster: ClusterFigures = field(default_factory=ClusterFigures)

    def of_node(self, node_id: str) -> NodeFigures:
        return self.nodes.get(node_id, _UNMEASURED)

    def of_model(self, model_id: str, weight_bytes: int) -> ModelFigures:
        return ModelFigures(self.models.get(model_id, {}), self.cluster, weight_bytes)

    def adding(self, new: NewValues) -> "Figures":
        """With what was measured since. Of a model that is not known nothing is kept: whoever asks
        for it reads all that there is."""
        nodes, models, cluster = self.nodes, self.models, self.cluster
        for key, values in new.items():
            if key.scope is Scope.NODE:
                known = nodes.get(key.node_id, _UNMEASURED).measured
                nodes = put(nodes, key.node_id, NodeFigures(_with(known, key.quantity, values)))
            elif key.scope is Scope.CLUSTER:
                cluster = ClusterFigures(_with(cluster.measured, key.quantity, values))
            elif key.model_id in models:
                known = models[key.model_id]
                models = put(models, key.model_id, _with(known, key.quantity, values))
        return Figures(nodes, models, cluster)

    def knowing(self, model_ids: Iterable[str]) -> "Figures":
        """With an entry for each; what there is of them is to be added."""
        models = self.models
        for model_id in model_ids:
            if model_id not in models:
                models = put(models, model_id, Map())
        return Figures(self.nodes, models, self.cluster)

    def without_nodes(self, node_ids: Iterable[str]) -> "Figures":
        gone = set(node_ids)
        if gone.isdisjoint(self.nodes):
            return self
        nodes = Map({id_: found for id_, found in self.nodes.items() if id_ not in gone})
        return Figures(nodes, self.models, self.cluster)

    def of_models(self, model_ids: Iterable[str]) -> "Figures":
        """Of these models alone, and of all else."""
        kept = Map({id_: self.models[id_] for id_ in model_ids if id_ in self.models})
        return Figures(self.nodes, kept, self.cluster)
