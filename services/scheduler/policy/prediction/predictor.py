"""What a plan will come to: time to the first token, time per token, and cost. Pure.

The formulas are those of the design, section 7. Every figure that goes in was measured, or is the
prior of one that was not yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.scheduler.policy.prediction.slowdown import StageShare, slowdown_of


@dataclass(frozen=True)
class StageForecast:
    """What is known of one stage before it starts."""

    runtime_s: float  # until its process can compute, if its weights were there
    missing_bytes: int  # of its weights, in the node's host cache
    rate_bytes_per_s: float  # of its fetch
    tail_s: float  # from the last byte until it can compute with it
    device_bytes: int  # reserved
    share: StageShare

    @property
    def fetch_s(self) -> float:
        return self.missing_bytes / self.rate_bytes_per_s

    @property
    def ready_s(self) -> float:
        """Fetch and launch go side by side."""
        fetch_s = self.fetch_s + self.tail_s if self.missing_bytes else 0.0
        return max(self.runtime_s, fetch_s)


@dataclass(frozen=True)
class ModelSpeed:
    """Of the whole model on a device that nobody else wants."""

    prefill_s: float  # of a prompt of usual length
    step_s: float  # one decode step
    hop_s: float  # hidden states of one token from one stage to the next
    prompt_hop_s: float = 0.0  # those of that prompt


@dataclass(frozen=True)
class PipelineForecast:
    """What is known of all stages together."""

    num_stages: int
    ready_s: float  # until each could compute
    fetch_s: float  # until the last byte is there: no start is sooner, whatever others took
    device_bytes: int  # reserved by all
    most_device_bytes: int  # by one of them
    slowdown: float  # phi

    @classmethod
    def of(cls, stages: Sequence[StageForecast]) -> "PipelineForecast":
        return cls(
            len(stages),
            max(stage.ready_s for stage in stages),
            max(stage.fetch_s for stage in stages),
            sum(stage.device_bytes for stage in stages),
            max(stage.device_bytes for stage in stages),
            slowdown_of(stage.share for stage in stages),
        )


@dataclass(frozen=True)
class Occupancy:
    """What an endpoint holds of devices, and how long, for its cost."""

    full_bytes: int  # a worker that holds the whole model
    num_full: int  # workers that are left once the pipeline is consolidated; 0: it never is
    consolidation_s: float  # from serving until then
    serving_s: float  # how long it serves in all, with its keep-alive


@dataclass(frozen=True)
class Prediction:
    """Of one plan. TTFT counts from the arrival of the request that has waited longest."""

    waited_s: float
    ready_s: float  # from the decision until every stage can compute
    prefill_s: float
    hops_s: float
    tpot_s: float
    cost_byte_s: float  # device memory x time
    slowdown: float  # phi
    correction: float = 1.0  # what the formula's TTFT was multiplied by

    @property
    def ttft_s(self) -> float:
        return self.waited_s + self.ready_s + self.prefill_s + self.hops_s


def predict(
    stages: Sequence[StageForecast],
    speed: ModelSpeed,
    occupancy: Occupancy,
    waited_s: float = 0.0,
    correction: float = 1.0,
) -> Prediction:
    """As `predict_pipeline`, of stages."""
    pipeline = PipelineForecast.of(stages)
    return predict_pipeline(pipeline, speed, occupancy, waited_s, correction)


def predict_pipeline(
    pipeline: PipelineForecast,
    speed: ModelSpeed,
    occupancy: Occupancy,
    waited_s: float = 0.0,
    correction: float = 1.0,
) -> Prediction:
    """TTFT = waited + max over stages(max(runtime, missing bytes / rate + tail)) + prefill x phi +
    hops; TPOT = step x phi + hop x (s - 1). Of one stage, phi is 1 on a device of its own.

    `correction` is measured over predicted TTFT of earlier starts, without what they waited; but
    bytes take as long as the network needs for them.
    """
    phi, num_hops = pipeline.slowdown, pipeline.num_stages - 1
    ready_s = max(pipeline.ready_s * correction, pipeline.fetch_s)
    computing_s = speed.prefill_s * phi + speed.prompt_hop_s * num_hops
    formula_s = pipeline.ready_s + computing_s
    return Prediction(
        waited_s=waited_s,
        ready_s=ready_s,
        prefill_s=speed.prefill_s * phi * correction,
        hops_s=speed.prompt_hop_s * num_hops * correction,
        tpot_s=speed.step_s * phi + speed.hop_s * num_hops,
        cost_byte_s=_cost_byte_s(pipeline.device_bytes, occupancy, ready_s),
        slowdown=phi,
        correction=(ready_s + computing_s * correction) / formula_s if formula_s else correction,
    )


def _cost_byte_s(reserved: int, occupancy: Occupancy, ready_s: float) -> float:
    """Everything that is reserved, until the pipeline is consolidated; the full workers alone from
    then on. One that is never consolidated keeps all of it."""
    if occupancy.num_full == 0:
        return reserved * (ready_s + occupancy.serving_s)
    shape_s = min(occupancy.consolidation_s, occupancy.serving_s)
    kept = occupancy.num_full * occupancy.full_bytes
    return reserved * (ready_s + shape_s) + kept * (occupancy.serving_s - shape_s)
