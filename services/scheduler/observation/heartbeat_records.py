"""Takes the nodes' heartbeats into their rows. Remembers what it has written, so that a quiet
second costs few statements. What one node's heartbeat breaks costs that node alone."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Generic

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    EngineObserved,
    FetcherHeartbeat,
)
from libs.common.records.database import is_conflict, is_unavailability
from services.scheduler.policy.cluster import Device, NodeRecord
from services.scheduler.policy.limits import Limits
from services.scheduler.policy.liveness import gateway_of
from services.scheduler.policy.observed import H, Heard, NodeProcess, Observed
from services.scheduler.store import heartbeats, nodes

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S = 2.0  # of rows whose only news is that the node was heard


@dataclass(frozen=True)
class _Written:
    boot_id: str
    accepted_version: int
    at_s: float


@dataclass
class _Log(Generic[H]):
    """Which heartbeats of one process kind the rows show already."""

    _written: dict[str, _Written] = field(default_factory=dict)

    def unwritten(self, heard: Mapping[str, Heard[H]]) -> list[H]:
        """What must be written in this round."""
        return [
            latest.heartbeat for node_id, latest in heard.items() if self._is_due(node_id, latest)
        ]

    def remember(self, heard: Mapping[str, Heard[H]], node_ids: Iterable[str]) -> None:
        """They were written, and the transaction has committed."""
        for node_id in node_ids:
            beat, at_s = heard[node_id].heartbeat, heard[node_id].at_s
            self._written[node_id] = _Written(beat.boot_id, beat.accepted_version, at_s)

    def _is_due(self, node_id: str, latest: Heard[H]) -> bool:
        old, beat = self._written.get(node_id), latest.heartbeat
        if old is None or latest.at_s - old.at_s >= WRITE_INTERVAL_S:
            return True
        return (old.boot_id, old.accepted_version) != (beat.boot_id, beat.accepted_version)


@dataclass
class Recorded:
    """What a round's heartbeats changed in rows, for the snapshot after the commit."""

    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    devices: dict[str, tuple[Device, ...]] = field(default_factory=dict)
    changed_nodes: set[str] = field(default_factory=set)  # whose agent is another one now
    after_commit: list[Callable[[], None]] = field(default_factory=list)

    def merge(self, other: "Recorded") -> None:
        self.nodes |= other.nodes
        self.devices |= other.devices
        self.changed_nodes |= other.changed_nodes
        self.after_commit += other.after_commit


@dataclass
class HeartbeatRecords:
    limits: Limits
    _agents: _Log[AgentHeartbeat] = field(default_factory=_Log)
    _fetchers: _Log[FetcherHeartbeat] = field(default_factory=_Log)
    _devices: dict[str, tuple[DeviceObserved, ...]] = field(default_factory=dict)
    _engines: dict[str, tuple[EngineObserved, ...]] = field(default_factory=dict)
    _cached: dict[str, frozenset[str]] = field(default_factory=dict)
    _invalid: Mapping[NodeProcess, str] = field(default_factory=dict)
    _gateways_at_s: float = -inf

    async def write(
        self,
        session: AsyncSession,
        observed: Observed,
        records: Mapping[str, NodeRecord],
        now_s: float,
    ) -> Recorded:
        """`records`: the nodes' rows as they are; one that has none gets one."""
        created = await self._created(session, observed, records)
        known = {**records, **created}
        agents = self._agents.unwritten(observed.agents)
        fetchers = self._fetchers.unwritten(observed.fetchers)
        recorded = Recorded(dict(created))
        tried = await self._try(session, observed, known, agents, fetchers)
        if tried is not None:
            recorded.merge(tried)
        else:
            logger.warning("heartbeats are recorded node by node")
            for node_id in _node_ids(agents, fetchers):
                tried = await self._try(
                    session,
                    observed,
                    known,
                    [beat for beat in agents if beat.node_id == node_id],
                    [beat for beat in fetchers if beat.node_id == node_id],
                )
                recorded.merge(tried or Recorded())
        await self._write_invalid(session, observed, recorded)
        await self._write_gateways(session, observed, now_s)
        return recorded

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
        self, session: AsyncSession, observed: Observed, records: Mapping[str, NodeRecord]
    ) -> dict[str, NodeRecord]:
        invalid = {process.node_id for process in observed.invalid}
        new = (observed.agents.keys() | observed.fetchers.keys() | invalid) - records.keys()
        if not new:
            return {}
        await nodes.create(session, new)
        return {id_: r for id_, r in (await nodes.load(session)).items() if id_ in new}

    async def _write_all(
        self,
        session: AsyncSession,
        recorded: Recorded,
        known: Mapping[str, NodeRecord],
        agents: Sequence[AgentHeartbeat],
        fetchers: Sequence[FetcherHeartbeat],
    ) -> None:
        await heartbeats.record_agents(session, agents)
        for agent in agents:
            await self._agent_facts(session, recorded, known[agent.node_id], agent)
        await heartbeats.record_fetchers(session, fetchers)
        for fetcher in fetchers:
            await self._cached_units(session, recorded, fetcher)

    async def _agent_facts(
        self,
        session: AsyncSession,
        recorded: Recorded,
        record: NodeRecord,
        beat: AgentHeartbeat,
    ) -> None:
        version = record.desired_version
        if beat.boot_id != record.agent_boot_id:
            recorded.changed_nodes.add(record.id)
        if beat.accepted_version > version:
            await nodes.raise_desired(session, record.id, beat.accepted_version)
            version = beat.accepted_version + 1
        recorded.nodes[record.id] = replace(
            record, agent_boot_id=beat.boot_id, desired_version=version
        )
        await self._hardware(session, recorded, beat)

    async def _hardware(
        self, session: AsyncSession, recorded: Recorded, beat: AgentHeartbeat
    ) -> None:
        """Devices, and what the engines take of them."""
        node_id, devices, engines = beat.node_id, beat.devices, beat.engines
        has_devices = self._devices.get(node_id) != devices
        has_engines = self._engines.get(node_id, ()) != engines
        if has_devices:
            await nodes.record_devices(session, node_id, devices)
            recorded.after_commit.append(lambda: self._devices.update({node_id: devices}))
        if has_engines:
            await nodes.record_engines(session, node_id, engines)
            recorded.after_commit.append(lambda: self._engines.update({node_id: engines}))
        if has_devices or has_engines:
            rows = await nodes.load_devices(session, [node_id])
            recorded.devices[node_id] = tuple(replace(row, reserved_bytes=0) for row in rows)

    async def _cached_units(
        self, session: AsyncSession, recorded: Recorded, beat: FetcherHeartbeat
    ) -> None:
        node_id, cached = beat.node_id, frozenset(beat.cached_units)
        written = self._cached.get(node_id)
        if cached == written:
            return
        # Forgotten until the commit: whether one that fails took place is not known.
        self._cached.pop(node_id, None)
        if written is None:
            written = await nodes.load_cached_units(session, node_id)
        await nodes.change_cached_units(
            session, node_id, gone=written - cached, new=cached - written
        )
        recorded.after_commit.append(lambda: self._cached.update({node_id: cached}))

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
        if now_s - self._gateways_at_s < WRITE_INTERVAL_S:
            return
        self._gateways_at_s = now_s
        liveness, limit_s = observed.liveness, self.limits.gateway_lost_s
        speaking = [
            id_ for id_ in observed.gateways if liveness.silence_s(gateway_of(id_)) <= limit_s
        ]
        await nodes.record_gateways(session, speaking)


def _node_ids(agents: Sequence[AgentHeartbeat], fetchers: Sequence[FetcherHeartbeat]) -> list[str]:
    return sorted({beat.node_id for beat in agents} | {beat.node_id for beat in fetchers})
