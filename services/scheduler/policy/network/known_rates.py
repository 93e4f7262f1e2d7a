"""What links carry, as plans reckon with it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.scheduler.policy.nodes.node import UNCAPPED_BYTES_PER_S
from services.scheduler.policy.prediction.figures import Figures, NodeFigures


class Rates(Protocol):
    """Who knows what links carry."""

    @property
    def nics(self) -> Mapping[str, object]: ...  # by node: another value once anything is new

    @property
    def egress_bytes_per_s(self) -> float | None: ...  # of the object store; None: no limit

    def nic_bytes_per_s(self, node_id: str, cap_bytes_per_s: int) -> float: ...


@dataclass(frozen=True)
class KnownRates:
    """NICs as measured by fetches that were alone on theirs; the egress as configured."""

    figures: Figures = field(default_factory=Figures)
    egress_bytes_per_s: float | None = None

    @property
    def nics(self) -> Mapping[str, NodeFigures]:
        return self.figures.nodes

    def nic_bytes_per_s(self, node_id: str, cap_bytes_per_s: int) -> float:
        return nic_rate_bytes_per_s(cap_bytes_per_s, self.figures.of_node(node_id))


def nic_rate_bytes_per_s(cap_bytes_per_s: int, figures: NodeFigures) -> float:
    """As measured, but never above the cap that was set; 0: none."""
    measured = figures.nic_bytes_per_s(cap_bytes_per_s or UNCAPPED_BYTES_PER_S)
    return max(1.0, min(measured, cap_bytes_per_s) if cap_bytes_per_s else measured)
