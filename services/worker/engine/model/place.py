"""Where in the pipeline a stage stands. Plain values, no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Stages form a ring: the entry stage, index 0, gets what the last one sends."""

    index: int
    num_stages: int
    layers: range  # may be empty

    def __post_init__(self) -> None:
        assert 0 <= self.index < self.num_stages

    @classmethod
    def whole(cls, num_layers: int) -> "Place":
        return cls(0, 1, range(num_layers))

    @property
    def is_entry(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.index == self.num_stages - 1
