"""What plans come to: exactly once their layers are cut, and roughly before. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.states import MemberMemory
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.prediction.predictor import (
    Occupancy,
    PipelineForecast,
    Prediction,
    predict_pipeline,
)


@dataclass(frozen=True)
class PipelineShape:
    """`num_full` of the workers have memory for the whole model."""

    num_stages: int
    num_full: int


def prediction_of(plan: Plan, shape: ModelShape) -> Prediction:
    """What is known of the plan's nodes and of the model says this."""
    stages = [stage.forecast(shape.needed_bytes) for stage in plan.stages]
    full = [stage for stage in plan.stages if stage.memory is MemberMemory.FULL]
    missing_s = [
        (shape.deployable.summary.weight_bytes - stage.weight_bytes) / stage.rate_bytes_per_s
        for stage in full
    ]
    rest_s = max(missing_s, default=0.0)
    return _predict(PipelineForecast.of(stages), shape, len(full), rest_s)


@dataclass(frozen=True, eq=False)
class DeviceSet:
    """Devices that were chosen for a model, one stage on each, as if layers could be cut anywhere:
    no split is ready sooner. Bytes are shared out by network rates."""

    offers: Sequence[Offer]
    shape: ModelShape

    @cached_property
    def ready_s(self) -> float:
        launches_s = (o.launch_s(o.node.num_standbys > 0) for o in self.offers)
        return max(_fluid_s(self.offers, self.shape), *launches_s)

    @cached_property
    def fetch_s(self) -> float:
        """Without tails."""
        missing_bytes = _missing_bytes(self.offers, self.shape)
        rates = {offer.node.id: offer.rate_bytes_per_s for offer in self.offers}
        return missing_bytes / sum(rates.values()) if missing_bytes else 0.0

    @cached_property
    def parts(self) -> list[float]:
        """Of the model, by stage."""
        rates = [offer.rate_bytes_per_s for offer in self.offers]
        total = sum(rates)
        return [rate / total for rate in rates]

    def estimate(self, num_full: int) -> Prediction:
        """The first `num_full` hold memory for the whole model."""
        shape, weight_bytes = self.shape, self.shape.deployable.summary.weight_bytes
        of_model = [1.0] * num_full + self.parts[num_full:]
        planned = [
            (offer, shape.needed_bytes * part)
            for offer, part in zip(self.offers, of_model, strict=True)
        ]
        device_bytes = [int(bytes_) + offer.device.worker_bytes for offer, bytes_ in planned]
        shares = [offer.compute_share(bytes_) for offer, bytes_ in planned]
        pipeline = PipelineForecast(
            num_stages=len(planned),
            ready_s=self.ready_s,
            fetch_s=self.fetch_s,
            device_bytes=sum(device_bytes),
            most_device_bytes=max(device_bytes),
            slowdown=sum(part / share for part, share in zip(self.parts, shares, strict=True)),
        )
        full = zip(self.offers[:num_full], self.parts, strict=False)
        rest_s = (weight_bytes * (1 - part) / offer.rate_bytes_per_s for offer, part in full)
        return _predict(pipeline, shape, num_full, max(rest_s, default=0.0))


def _predict(
    pipeline: PipelineForecast, shape: ModelShape, num_full: int, rest_s: float
) -> Prediction:
    """`rest_s`: until the full-memory workers have fetched the layers that they do not have."""
    objective = shape.deployable.objective
    is_pipeline = pipeline.num_stages > 1
    num_left = num_full if objective.can_consolidate or not is_pipeline else 0
    occupancy = Occupancy(
        full_bytes=pipeline.most_device_bytes,
        num_full=num_left,
        consolidation_s=rest_s if is_pipeline else 0.0,
        serving_s=objective.serving_s,
    )
    waited_s, correction = objective.waited_s, objective.correction
    return predict_pipeline(pipeline, objective.speed, occupancy, waited_s, correction)


def _fluid_s(chosen: Sequence[Offer], shape: ModelShape) -> float:
    """The least time T with sum of rate x (T - tail) = missing bytes, over those that have begun.

    Nothing has to be fetched of what any of them holds.
    """
    missing_bytes = float(_missing_bytes(chosen, shape))
    if missing_bytes <= 0:
        return 0.0
    rate = 0.0
    begun_s = 0.0
    nodes = {offer.node.id: offer.node for offer in chosen}.values()
    for tail_s, offer_rate in sorted((n.tail_s, n.rate_bytes_per_s) for n in nodes):
        fetched_bytes = rate * (tail_s - begun_s)
        if rate and fetched_bytes >= missing_bytes:
            break
        missing_bytes -= fetched_bytes
        rate, begun_s = rate + offer_rate, tail_s
    return begun_s + missing_bytes / rate


def _missing_bytes(chosen: Sequence[Offer], shape: ModelShape) -> int:
    held = frozenset[str]().union(*(offer.cached for offer in chosen))
    if not held:
        return shape.units_bytes
    return sum(size for digest, size in shape.sizes.items() if digest not in held)
