"""How fast the stages of an endpoint are together, with the shares of their devices."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from services.scheduler.simulation.cluster.compute import StageCompute


@dataclass(frozen=True, eq=False)
class PipelineSpeed:
    """`hop_s`: from a stage to the next, of a decode step; `prompt_hop_s`: of a whole prompt."""

    stages: tuple[StageCompute, ...]
    hop_s: float
    prompt_hop_s: float
    _duties: dict[int, Sequence[float]] = field(default_factory=dict)  # by batch size

    def prefill_s(self, num_tokens: int) -> float:
        per_token_s = sum(stage.prefill_s_per_token() for stage in self.stages)
        return num_tokens * per_token_s + self.prompt_hop_s * (len(self.stages) - 1)

    def step_s(self, batch_size: int) -> float:
        num_batches = min(batch_size, len(self.stages))
        times_s = [stage.step_s(ceil(batch_size / num_batches)) for stage in self.stages]
        return self._round_s(times_s, num_batches)

    def set_duties(self, batch_size: int) -> None:
        """Of a pipeline that decodes so many: each stage waits for the others."""
        if len(self.stages) == 1:
            return
        duties = self._duties.get(batch_size)
        if duties is None:
            duties = self._duties[batch_size] = self._duties_of(batch_size)
        for stage, duty in zip(self.stages, duties, strict=True):
            stage.device.set_duty(stage, duty)

    @property
    def _hops_s(self) -> float:
        return self.hop_s * (len(self.stages) - 1)

    def _round_s(self, times_s: Sequence[float], num_batches: int) -> float:
        """As many micro-batches are on their way as there are stages: each sequence waits for the
        round trip of its own, or for the slowest stage to be done with all."""
        return max(sum(times_s) + self._hops_s, num_batches * max(times_s))

    def _duties_of(self, batch_size: int) -> Sequence[float]:
        num_batches = min(batch_size, len(self.stages))
        times_s = [stage.alone_step_s(ceil(batch_size / num_batches)) for stage in self.stages]
        round_s = self._round_s(times_s, num_batches)
        return [min(1.0, num_batches * time_s / round_s) for time_s in times_s]
