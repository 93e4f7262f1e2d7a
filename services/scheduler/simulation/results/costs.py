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
    """In bytes x seconds; the first three by model. `starting_byte_s`: of devices, until endpoints
    served."""

    device_byte_s: Mapping[str, float]
    cache_byte_s: Mapping[str, float]
    num_starts: Mapping[str, int]
    standby_byte_s: float
    host_memory_price: float
    starting_byte_s: float = 0.0

    def of_model(self, model_id: str) -> float:
        """In bytes of device memory x seconds."""
        all_starts = max(1, sum(self.num_starts.values()))
        standby_byte_s = self.standby_byte_s * self.num_starts.get(model_id, 0) / all_starts
        host_byte_s = self.cache_byte_s.get(model_id, 0.0) + standby_byte_s
        return self.device_byte_s.get(model_id, 0.0) + self.host_memory_price * host_byte_s

    @property
    def all_devices(self) -> float:
        return sum(self.device_byte_s.values())

    @property
    def total(self) -> float:
        host_byte_s = sum(self.cache_byte_s.values()) + self.standby_byte_s
        return self.all_devices + self.host_memory_price * host_byte_s

    def as_json(self) -> dict[str, object]:
        share = self.starting_byte_s / self.all_devices if self.all_devices else 0.0
        return {
            "device_gb_s": _gb_s(self.all_devices),
            "starting_share": round(share, _DIGITS),
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
        simulation.ledger.starting_byte_s,
    )


def _gb_s(byte_s: float) -> float:
    return round(byte_s / _GIGA, _DIGITS)
