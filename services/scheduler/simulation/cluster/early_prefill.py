"""What the stages of an endpoint do of its first prompt while their weights arrive."""

from dataclasses import dataclass

from services.scheduler.simulation.cluster.pipeline_speed import PipelineSpeed
from services.scheduler.simulation.cluster.request import SimulatedRequest


@dataclass(frozen=True)
class EarlyPrefill:
    since_s: float  # when they could compute with what they had
    until_s: float  # when the last weights are there
    most: float  # of the prompt, until then; in [0, 1)

    def done_of(self, request: SimulatedRequest, pipeline: PipelineSpeed) -> float:
        """As a part of the prompt; none of one that comes later."""
        had_s = self.until_s - max(self.since_s, request.arrived_at_s)
        return max(0.0, min(self.most, had_s / pipeline.prefill_s(request.num_prompt_tokens)))
