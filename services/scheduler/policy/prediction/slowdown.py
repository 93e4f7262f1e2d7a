"""How much slower a pipeline computes than one worker that has a device's whole compute. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class StageShare:
    """A stage's part of the model, and what it gets of its device's compute; both in (0, 1]."""

    of_model: float
    of_compute: float


def slowdown(num_stages: int, num_full: int) -> float:
    """phi(s, w) = (s - w) + w/s, by which prefill and decode steps take longer (design, section 7):
    where everybody wants the devices, a stage with 1/s of the memory has 1/s of the compute, and
    computes its 1/s of the layers in the time of all; one with full memory in 1/s of it."""
    return (num_stages - num_full) + num_full / num_stages


def slowdown_of(stages: Iterable[StageShare]) -> float:
    """The same for stages whose shares were measured: 1 where nobody else wants the devices."""
    return sum(stage.of_model / stage.of_compute for stage in stages)
