"""How the workers of a device share its compute, and how fast a stage is with its share."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class ComputeSharing(StrEnum):
    WEIGHTS = "weights"  # among those that compute at that moment, by memory; alone: all of it
    CAPS = "caps"  # by memory, whoever else computes; with the memory of a whole model: all of it


@dataclass(frozen=True)
class StepCurve:
    """Seconds of one decode step of a whole model, by batch size: straight lines between the given
    points, the last one's height beyond."""

    points: tuple[tuple[int, float], ...]  # ascending

    def step_s(self, batch_size: int) -> float:
        place = bisect_right(self.points, batch_size, key=lambda point: point[0])
        if place == 0:
            return self.points[0][1]
        if place == len(self.points):
            return self.points[-1][1]
        (left, left_s), (right, right_s) = self.points[place - 1], self.points[place]
        return left_s + (right_s - left_s) * (batch_size - left) / (right - left)


@dataclass(frozen=True)
class Speed:
    """Of a whole model on a device that nobody else wants."""

    prefill_s_per_token: float
    decode: StepCurve


@dataclass(eq=False)
class DeviceCompute:
    """Who computes on a device now, and for which part of the time: a stage of a pipeline waits for
    the others. Whoever begins or ends changes the others' shares."""

    sharing: ComputeSharing = ComputeSharing.WEIGHTS
    _computing: dict["StageCompute", Callable[[], None]] = field(default_factory=dict)

    def begin(self, stage: "StageCompute", on_change: Callable[[], None]) -> None:
        self._computing[stage] = on_change
        self._tell_others(stage)

    def end(self, stage: "StageCompute") -> None:
        del self._computing[stage]
        self._tell_others(stage)

    def set_duty(self, stage: "StageCompute", duty: float) -> None:
        """For which part of the time it computes, from now on."""
        if stage.duty != duty:
            stage.duty = duty
            self._tell_others(stage)

    def share_of(self, stage: "StageCompute") -> float:
        """What it gets while it computes; in (0, 1]. By weights: of the others, each takes its
        own for the part of the time in which it computes."""
        own_bytes = stage.memory_bytes
        if self.sharing is ComputeSharing.CAPS:
            return min(1.0, own_bytes / stage.whole_model_bytes)
        if len(self._computing) == 1:
            return 1.0
        others = sum(x.duty * x.memory_bytes for x in self._computing if x is not stage)
        return own_bytes / (own_bytes + others)

    def _tell_others(self, stage: "StageCompute") -> None:
        if self.sharing is ComputeSharing.WEIGHTS and self._computing:
            for other, on_change in tuple(self._computing.items()):
                if other is not stage:
                    on_change()


@dataclass(eq=False)
class StageCompute:
    """A stage as something that computes: its part of the model, on a device."""

    device: DeviceCompute
    speed: Speed
    of_model: float  # its layers, of all; in [0, 1]
    memory_bytes: int
    whole_model_bytes: int  # what a worker with the whole model would have
    duty: float = 1.0  # for which part of the time it computes while its endpoint does
    _alone_s: dict[int, float] = field(default_factory=dict)  # of a step, by batch size

    def prefill_s_per_token(self) -> float:
        return self.speed.prefill_s_per_token * self.of_model / self.device.share_of(self)

    def step_s(self, batch_size: int) -> float:
        return self.alone_step_s(batch_size) / self.device.share_of(self)

    def alone_step_s(self, batch_size: int) -> float:
        found = self._alone_s.get(batch_size)
        if found is None:
            found = self._alone_s[batch_size] = self.speed.decode.step_s(batch_size) * self.of_model
        return found
