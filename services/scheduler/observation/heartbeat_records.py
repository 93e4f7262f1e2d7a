"""Takes the nodes' heartbeats into their rows. Remembers what it has written, so that a quiet
second costs few statements. What one node's heartbeat breaks costs that node alone."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import inf

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import (
    AgentHeartbeat,
    FetcherHeartbeat,
)
from libs.common.records.database import is_conflict, is_unavailability
from services.scheduler.observation.hardware_records import HardwareRecords
from services.scheduler.observation.host_cache_records import HostCacheRecords
from services.scheduler.observation.written_heartbeats import (
    Unwritten,
    WrittenHeartbeats,
    agents_unlike_rows,
    sizes_of,
    written_agents,
    written_fetchers,
)
from services.scheduler.policy.cluster import Device, NodeRecord
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.liveness import gateway_of
from services.scheduler.policy.nodes.cached_units import UnitsChanged
from services.scheduler.policy.observed import NodeProcess, Observed
from services.scheduler.store import heartbeats, nodes

logger = logging.getLogger(__name__)

GATEWAYS_INTERVAL_S = 2.0


@dataclass
class Recorded:
    """What a round's heartbeats changed in rows, for the snapshot after the commit."""

    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    devices: dict[str, tuple[Device, ...]] = field(default_factory=dict)
    has_new_sizes: bool = False  # of devices, or of what a node's host cache may hold
    changed_nodes: set[str] = field(default_factory=set)  # whose agent is another one now
    host_caches: dict[str, UnitsChanged] = field(default_factory=dict)
    after_commit: list[Callable[[], None]] = field(default_factory=list)

    def merge(self, other: "Recorded") -> None:
        self.nodes |= other.nodes
        self.devices |= other.devices
        self.has_new_sizes |= other.has_new_sizes
        self.changed_nodes |= other.changed_nodes
        self.host_caches |= other.host_caches
        self.after_commit += other.after_commit


@dataclass
class HeartbeatRecords:
    limits: Limits
    host_caches: HostCacheRecords = field(default_factory=HostCacheRecords)
    _agents: WrittenHeartbeats[AgentHeartbeat] = field(default_factory=written_agents)
    _fetchers: WrittenHeartbeats[FetcherHeartbeat] = field(default_factory=written_fetchers)
    _hardware: HardwareRecords = field(default_factory=HardwareRecords)
    _invalid: Mapping[NodeProcess, str] = field(default_factory=dict)
    _gateways_at_s: float = -inf

    async def write(
        self,
        session: AsyncSession,
        observed: Observed,
        records: Mapping[str, NodeRecord],
        now_s: float,
        node_ids: Set[str] | None = None,
    ) -> Recorded:
        """Of these nodes, or of all. `records`: their rows as they are; one that has none gets
        one."""
        heard = _heard(observed) if node_ids is None else node_ids
        created = await self._created(session, observed, [x for x in heard if x not in records])
        known = {**records, **created} if created else records
        self.host_caches.forget(created)
        self._agents.forget(agents_unlike_rows(observed, known, heard))
        agents = self._agents.unwritten(observed.agents, heard)
        fetchers = self._fetchers.unwritten(observed.fetchers, heard)
        recorded = Recorded(dict(created))
        recorded.merge(await self._record(session, observed, known, agents.news, fetchers.news))
        await self._touch(session, observed, agents, fetchers, recorded)
        await self._write_invalid(session, observed, recorded)
        await self._write_gateways(session, observed, now_s)
        return recorded

    def forget(self, node_ids: Collection[str]) -> None:
        """Their rows are gone: whoever speaks again is written anew."""
        self._agents.forget(node_ids)
        self._fetchers.forget(node_ids)
        self._hardware.forget(node_ids)
        self.forget_host_caches(node_ids)

    def forget_host_caches(self, node_ids: Collection[str]) -> None:
        self.host_caches.forget(node_ids)

    async def _record(
        self,
        session: AsyncSession,
        observed: Observed,
        known: Mapping[str, NodeRecord],
        agents: Sequence[AgentHeartbeat],
        fetchers: Sequence[FetcherHeartbeat],
    ) -> Recorded:
        """All together. If that fails, one half and then the other: what is wrong with one node
        costs the others a few statements, however many they are."""
        tried = await self._try(session, observed, known, agents, fetchers)
        node_ids = _node_ids(agents, fetchers)
        if tried is not None or len(node_ids) < 2:
            return tried or Recorded()
        recorded, half = Recorded(), len(node_ids) // 2
        for part in (set(node_ids[:half]), set(node_ids[half:])):
            recorded.merge(
                await self._record(
                    session,
                    observed,
                    known,
                    [beat for beat in agents if beat.node_id in part],
                    [beat for beat in fetchers if beat.node_id in part],
                )
            )
        return recorded

    async def _touch(
        self,
        session: AsyncSession,
        observed: Observed,
        agents: Unwritten[AgentHeartbeat],
        fetchers: Unwritten[FetcherHeartbeat],
        recorded: Recorded,
    ) -> None:
        """Rows of which nothing else is to be said."""
        await heartbeats.touch_agents(session, agents.still_heard)
        await heartbeats.touch_fetchers(session, fetchers.still_heard)
        recorded.after_commit += [
            lambda: self._agents.remember(observed.agents, agents.still_heard),
            lambda: self._fetchers.remember(observed.fetchers, fetchers.still_heard),
        ]

    async def _try(
        self,
        session: AsyncSession,
        observed: Observed,
        known: Mapping[str, NodeRecord],
        agents: Sequence[AgentHeartbeat],
        fetchers: Sequence[FetcherHeartbeat],
    ) -> Recorded | None:
        """Together, in one savepoint; None if that failed and nothing was written."""
        recorded = Recorded()
        if not agents and not fetchers:
            return recorded
        try:
            async with session.begin_nested():
                await self._write_all(session, recorded, known, agents, fetchers)
        except Exception as exc:
            if is_unavailability(exc) and not is_conflict(exc):
                raise
            names = ", ".join(_node_ids(agents, fetchers))
            logger.exception("heartbeats were not recorded, of: %s", names)
            return None
        of_agents = [beat.node_id for beat in agents]
        of_fetchers = [beat.node_id for beat in fetchers]
        recorded.after_commit += [
            lambda: self._agents.remember(observed.agents, of_agents),
            lambda: self._fetchers.remember(observed.fetchers, of_fetchers),
        ]
        return recorded

    async def _created(
        self, session: AsyncSession, observed: Observed, new: Collection[str]
    ) -> dict[str, NodeRecord]:
        spoke = [id_ for id_ in new if id_ in _heard(observed)] if new else []
        if not spoke:
            return {}
        await nodes.create(session, spoke)
        return await nodes.load(session, spoke)

    async def _write_all(
        self,
        session: AsyncSession,
        recorded: Recorded,
        known: Mapping[str, NodeRecord],
        agents: Sequence[AgentHeartbeat],
        fetchers: Sequence[FetcherHeartbeat],
    ) -> None:
        await heartbeats.record_agents(session, agents)
        await self._agent_facts(session, recorded, known, agents)
        hardware = await self._hardware.write(session, agents)
        recorded.devices |= hardware.devices
        recorded.has_new_sizes |= hardware.has_new_sizes
        recorded.has_new_sizes |= any(
            sizes_of(self._fetchers.written(beat.node_id)) != sizes_of(beat) for beat in fetchers
        )
        recorded.after_commit += hardware.after_commit
        await heartbeats.record_fetchers(session, fetchers)
        done = await self.host_caches.record(session, fetchers)
        recorded.host_caches |= done.by_node
        recorded.after_commit += done.after_commit

    async def _agent_facts(
        self,
        session: AsyncSession,
        recorded: Recorded,
        known: Mapping[str, NodeRecord],
        agents: Sequence[AgentHeartbeat],
    ) -> None:
        raised = {}
        for beat in agents:
            record = known[beat.node_id]
            version = record.desired_version
            if beat.boot_id != record.agent_boot_id:
                recorded.changed_nodes.add(record.id)
            if beat.accepted_version > version:
                raised[record.id] = beat.accepted_version
                version = beat.accepted_version + 1
            if (beat.boot_id, version) != (record.agent_boot_id, record.desired_version):
                recorded.nodes[record.id] = replace(
                    record, agent_boot_id=beat.boot_id, desired_version=version
                )
        await nodes.raise_desired(session, raised)

    async def _write_invalid(
        self, session: AsyncSession, observed: Observed, recorded: Recorded
    ) -> None:
        """After what was heard before, which takes the mark away."""
        invalid = observed.invalid
        new = {who: words for who, words in invalid.items() if self._invalid.get(who) != words}
        await heartbeats.record_invalid(session, new)
        recorded.after_commit.append(lambda: setattr(self, "_invalid", invalid))

    async def _write_gateways(
        self, session: AsyncSession, observed: Observed, now_s: float
    ) -> None:
        if now_s - self._gateways_at_s < GATEWAYS_INTERVAL_S:
            return
        self._gateways_at_s = now_s
        liveness, limit_s = observed.liveness, self.limits.gateway_lost_s
        speaking = [
            id_ for id_ in observed.gateways if liveness.silence_s(gateway_of(id_)) <= limit_s
        ]
        await nodes.record_gateways(session, speaking)


def _node_ids(agents: Sequence[AgentHeartbeat], fetchers: Sequence[FetcherHeartbeat]) -> list[str]:
    return sorted({beat.node_id for beat in agents} | {beat.node_id for beat in fetchers})


def _heard(observed: Observed) -> Set[str]:
    """Nodes of which anything was heard, also what cannot be taken in."""
    invalid = {process.node_id for process in observed.invalid}
    return observed.agents.keys() | observed.fetchers.keys() | invalid
