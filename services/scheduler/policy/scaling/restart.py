"""How long it would take to bring an endpoint back. Pure.

Until plans are predicted from measurements: each stage launches and fetches side by side, and the
slowest counts, as in `planning/offers.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN_RATE_BYTES_PER_S = 1.25e9  # of a network card without a cap: ten Gbit/s
LEAST_S = 0.1  # nothing is back at once


@dataclass(frozen=True)
class StageRestart:
    launch_s: float  # of its process; 0 where a standby waits
    missing_bytes: int  # of its weights, that will not be in the node's host cache then
    nic_bytes_per_s: float  # 0: no cap is known

    @property
    def ready_s(self) -> float:
        rate = self.nic_bytes_per_s or UNKNOWN_RATE_BYTES_PER_S
        return max(self.launch_s, self.missing_bytes / rate)


def restart_s(stages: Iterable[StageRestart]) -> float:
    return max((stage.ready_s for stage in stages), default=0.0) or LEAST_S
