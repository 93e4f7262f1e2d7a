"""Which gateways live. Pure.

A gateway's id is its process's: its name and a part that is new at every start. So requests of one
that was started again belong to nobody, which its silence tells, and sooner its successor's voice.
"""

from dataclasses import dataclass, field

from libs.common.ids import kind_of
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.liveness import gateway_of
from services.scheduler.policy.observed import Observed

HEARTBEAT_S = 1.0  # of gateways


@dataclass(frozen=True)
class GatewayLiveness:
    observed: Observed
    limits: Limits
    # Answers that were given already.
    _lost: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def is_lost(self, gateway_id: str) -> bool:
        """Nobody will ever come for its requests again."""
        known = self._lost.get(gateway_id)
        if known is None:
            known = self._lost[gateway_id] = self._is_lost(gateway_id)
        return known

    def _is_lost(self, gateway_id: str) -> bool:
        silence_s = self._silence_s(gateway_id)
        is_long = silence_s > self.limits.gateway_replaced_s
        has_successor = is_long and self._has_successor(gateway_id)
        return silence_s > self.limits.gateway_lost_s or has_successor

    def is_heard(self, gateway_id: str) -> bool:
        """It lives for all we know; one that this leader has not heard yet may, or may not."""
        return gateway_id in self.observed.gateways and not self.is_lost(gateway_id)

    def unread_s(self, gateway_id: str) -> float | None:
        """For how long nobody has read what is generated for a lost gateway's requests. It may have
        lived for an interval after its last heartbeat."""
        if not self.is_lost(gateway_id):
            return None
        return max(0.0, self._silence_s(gateway_id) - HEARTBEAT_S)

    def _has_successor(self, gateway_id: str) -> bool:
        """Another process speaks under its name: it was replaced, and not cut off."""
        return any(
            kind_of(other) == kind_of(gateway_id)
            and self._silence_s(other) <= self.limits.gateway_replaced_s
            for other in self.observed.gateways
            if other != gateway_id
        )

    def _silence_s(self, gateway_id: str) -> float:
        return self.observed.liveness.silence_s(gateway_of(gateway_id))
