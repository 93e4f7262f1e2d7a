"""How long everybody has been silent, as of one moment.

Silence is counted in time during which anything at all could be heard: when the bus is away, or
this process was stopped, everybody seems silent at once, which says nothing about them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.scheduler.policy.nodes.lazy import cached_property


@dataclass(frozen=True)
class Liveness:
    """`heard_s` has, by speaker, how far the listening time was at the speaker's last message."""

    elapsed_s: float = 0.0
    heard_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def heard_for_s(self) -> float:
        """How long anything could be heard at all, since the start."""
        return self.elapsed_s

    def silence_s(self, speaker: str) -> float:
        """Since the speaker's last message; since the start for one who never spoke."""
        return self.elapsed_s - self.heard_s.get(speaker, 0.0)

    def silent(self, for_s: float) -> list[str]:
        """Who has spoken once, and not for longer than that. Mostly nobody, which one look at the
        oldest says."""
        elapsed_s, heard_s = self.elapsed_s, self.heard_s
        if elapsed_s - self._oldest_s <= for_s:
            return []
        return [speaker for speaker, at_s in heard_s.items() if elapsed_s - at_s > for_s]

    @cached_property
    def _oldest_s(self) -> float:
        return min(self.heard_s.values(), default=self.elapsed_s)


def agent_of(node_id: str) -> str:
    return f"agent {node_id}"


def fetcher_of(node_id: str) -> str:
    return f"fetcher {node_id}"


def gateway_of(gateway_id: str) -> str:
    return f"gateway {gateway_id}"
