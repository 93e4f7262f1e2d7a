"""What a run cost: memory x time, of devices and of hosts.

Host memory counts by a price, as a part of device memory's: what host caches held, whoever needed
it, and what processes hold that stand by, all the time. A model pays for what caches held of it,
and for standbys by its part of the starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.scheduler.simulation.simulation import Simulation

_GIGA = 1e9
_DIGITS = 6


@dataclass(frozen=True)
class Costs:
    """In bytes x seconds; the first three by model."""

    device_byte_s: Mapping[str, float]
    cache_byte_s: Mapping[str, float]
    num_starts: Mapping[str, int]
    standby_byte_s: float
    host_memory_price: float

    def of_model(self, model_id: str) -> float:
        """In bytes of device memory x seconds."""
        all_starts = max(1, sum(self.num_starts.values()))
        standby_byte_s = self.standby_byte_s * self.num_starts.get(model_id, 0) / all_starts
        host_byte_s = self.cache_byte_s.get(model_id, 0.0) + standby_byte_s
        return self.device_byte_s.get(model_id, 0.0) + self.host_memory_price * host_byte_s

    @property
    def total(self) -> float:
        host_byte_s = sum(self.cache_byte_s.values()) + self.standby_byte_s
        return sum(self.device_byte_s.values()) + self.host_memory_price * host_byte_s

    def as_json(self) -> dict[str, object]:
        return {
            "device_gb_s": _gb_s(sum(self.device_byte_s.values())),
            "host_cache_gb_s": _gb_s(sum(self.cache_byte_s.values())),
            "standby_gb_s": _gb_s(self.standby_byte_s),
            "host_memory_price": self.host_memory_price,
            "total_gb_s": _gb_s(self.total),
        }


def costs_of(simulation: "Simulation") -> Costs:
    """Of one that has run."""
    scenario, ended_at_s = simulation.scenario, simulation.events.now_s
    standby_bytes = sum(g.count * g.num_standbys * g.standby_bytes for g in scenario.nodes)
    return Costs(
        simulation.ledger.byte_s,
        simulation.host_memory.byte_s,
        simulation.recorder.starts_by_model,
        standby_bytes * ended_at_s,
        scenario.host_memory_price,
    )


def _gb_s(byte_s: float) -> float:
    return round(byte_s / _GIGA, _DIGITS)
