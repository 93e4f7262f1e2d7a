"""Which heartbeats the nodes' rows show already, and what a round must write. Pure."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Generic

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat
from services.scheduler.policy.cluster import NodeRecord
from services.scheduler.policy.observed import H, Heard, Observed

FIGURES_INTERVAL_S = 2.0  # between two writes of a row of which only figures change
TOUCH_INTERVAL_S = 5.0  # of a row whose only news is that the process was heard


@dataclass(frozen=True)
class Unwritten(Generic[H]):
    """`still_heard`: ids of nodes of which only the moment is to be written."""

    news: list[H]
    still_heard: list[str]


@dataclass(frozen=True)
class _Written(Generic[H]):
    heartbeat: H
    at_s: float  # when what was written, or touched, last was heard


@dataclass
class WrittenHeartbeats(Generic[H]):
    """Of one process kind. `urgent` and `figures` say what of a heartbeat its row has: what others
    wait for is written at once, figures now and then."""

    urgent: Callable[[H], object]
    figures: Callable[[H], object]
    _written: dict[str, _Written[H]] = field(default_factory=dict)

    def unwritten(self, heard: Mapping[str, Heard[H]], node_ids: Iterable[str]) -> Unwritten[H]:
        """Of these nodes."""
        found: Unwritten[H] = Unwritten([], [])
        for node_id in node_ids:
            latest = heard.get(node_id)
            if latest is None:
                continue
            if self._is_news(node_id, latest):
                found.news.append(latest.heartbeat)
            elif latest.at_s - self._written[node_id].at_s >= TOUCH_INTERVAL_S:
                found.still_heard.append(node_id)
        return found

    def written(self, node_id: str) -> H | None:
        """What the row of the node shows."""
        known = self._written.get(node_id)
        return None if known is None else known.heartbeat

    def remember(self, heard: Mapping[str, Heard[H]], node_ids: Iterable[str]) -> None:
        """They were written, and the transaction has committed."""
        for node_id in node_ids:
            latest = heard[node_id]
            self._written[node_id] = _Written(latest.heartbeat, latest.at_s)

    def forget(self, node_ids: Iterable[str]) -> None:
        """They are written again."""
        for node_id in node_ids:
            self._written.pop(node_id, None)

    def keep_only(self, node_ids: Collection[str]) -> None:
        for node_id in self._written.keys() - node_ids:
            del self._written[node_id]

    def _is_news(self, node_id: str, latest: Heard[H]) -> bool:
        old, beat = self._written.get(node_id), latest.heartbeat
        if old is None or self.urgent(old.heartbeat) != self.urgent(beat):
            return True
        if latest.at_s - old.at_s < FIGURES_INTERVAL_S:
            return False
        return self.figures(old.heartbeat) != self.figures(beat)


def written_agents() -> WrittenHeartbeats[AgentHeartbeat]:
    return WrittenHeartbeats(
        lambda beat: (beat.boot_id, beat.devices),
        lambda beat: (beat.accepted_version, beat.num_standbys, beat.engines),
    )


def written_fetchers() -> WrittenHeartbeats[FetcherHeartbeat]:
    return WrittenHeartbeats(
        lambda beat: (beat.boot_id, beat.host_cache.version),
        lambda beat: (
            beat.accepted_version,
            beat.nic_bytes_per_s,
            beat.measured_bytes_per_s,
            beat.cache_capacity_bytes,
            beat.cache_max_bytes,
            beat.cache_used_bytes,
        ),
    )


def sizes_of(beat: FetcherHeartbeat | None) -> tuple[int | None, ...] | None:
    """What it says of how much its node could ever hold, and how fast it could get there."""
    if beat is None:
        return None
    most = beat.cache_capacity_bytes if beat.cache_max_bytes is None else beat.cache_max_bytes
    return (most, beat.nic_bytes_per_s)


def agents_unlike_rows(
    observed: Observed, known: Mapping[str, NodeRecord], node_ids: Set[str]
) -> Iterator[str]:
    """Nodes whose agents are not as their rows, as this leader keeps them, have it: a round may
    have left the rest of what follows from another boot to the next one."""
    for node_id in node_ids & observed.agents.keys():
        beat, record = observed.agents[node_id].heartbeat, known[node_id]
        if record.agent_boot_id != beat.boot_id or record.desired_version < beat.accepted_version:
            yield node_id
