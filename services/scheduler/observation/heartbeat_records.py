"""Takes the nodes' heartbeats into their rows, and reports on every node that has one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Generic

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    EngineObserved,
    FetcherHeartbeat,
)
from services.scheduler.observation.observed import (
    H,
    HeartbeatLog,
    agent_of,
    fetcher_of,
    gateway_of,
)
from services.scheduler.policy.diagnosis import NodeReport
from services.scheduler.rounds.round import Round
from services.scheduler.store import nodes
from services.scheduler.store.nodes import NodeRecord

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

    def news(self, round_: Round, log: HeartbeatLog[H]) -> list[H]:
        """What must be written in this round; remembered once it has committed."""
        found = []
        for node_id in log.node_ids():
            heard = log.of(node_id)
            assert heard is not None
            beat = heard.heartbeat
            written = _Written(beat.boot_id, beat.accepted_version, heard.at_s)
            if self._is_news(node_id, written):
                found.append(beat)
                self._remember(round_, node_id, written)
        return found

    def _is_news(self, node_id: str, new: _Written) -> bool:
        old = self._written.get(node_id)
        if old is None or new.at_s - old.at_s >= WRITE_INTERVAL_S:
            return True
        return (old.boot_id, old.accepted_version) != (new.boot_id, new.accepted_version)

    def _remember(self, round_: Round, node_id: str, written: _Written) -> None:
        round_.after_commit.append(lambda: self._written.update({node_id: written}))


@dataclass
class Census:
    """Remembers what it has written, so that a quiet second costs few statements."""

    _agents: _Log[AgentHeartbeat] = field(default_factory=_Log)
    _fetchers: _Log[FetcherHeartbeat] = field(default_factory=_Log)
    _devices: dict[str, tuple[DeviceObserved, ...]] = field(default_factory=dict)
    _engines: dict[str, tuple[EngineObserved, ...]] = field(default_factory=dict)
    _cached: dict[str, frozenset[str]] = field(default_factory=dict)
    _gateways_at_s: float = -inf

    async def take(self, round_: Round) -> None:
        """Write what is new and fill the round's reports."""
        records = await self._known_nodes(round_)
        for node_id, record in records.items():
            round_.reports[node_id] = _report(round_, record)
        await self._take_agents(round_, records)
        await self._take_fetchers(round_)
        await self._take_gateways(round_)

    async def _known_nodes(self, round_: Round) -> Mapping[str, NodeRecord]:
        records = await nodes.load(round_.session)
        heard = {*round_.observed.agents.node_ids(), *round_.observed.fetchers.node_ids()}
        if heard <= records.keys():
            return records
        await nodes.create(round_.session, heard - records.keys())
        return await nodes.load(round_.session)

    async def _take_agents(self, round_: Round, records: Mapping[str, NodeRecord]) -> None:
        news = self._agents.news(round_, round_.observed.agents)
        await nodes.record_agents(round_.session, news)
        for beat in news:
            record = records[beat.node_id]
            if beat.boot_id != record.agent_boot_id:
                round_.changed_nodes.add(record.id)
            if beat.accepted_version > record.desired_version:
                await nodes.raise_desired(round_.session, record.id, beat.accepted_version)
            if self._devices.get(record.id) != beat.devices:
                await self._take_devices(round_, record.id, beat.devices)
            if self._engines.get(record.id, ()) != beat.engines:
                await self._take_engines(round_, record.id, beat.engines)

    async def _take_devices(
        self, round_: Round, node_id: str, devices: tuple[DeviceObserved, ...]
    ) -> None:
        await nodes.record_devices(round_.session, node_id, devices)
        round_.after_commit.append(lambda: self._devices.update({node_id: devices}))

    async def _take_engines(
        self, round_: Round, node_id: str, engines: tuple[EngineObserved, ...]
    ) -> None:
        await nodes.record_engines(round_.session, node_id, engines)
        round_.after_commit.append(lambda: self._engines.update({node_id: engines}))

    async def _take_fetchers(self, round_: Round) -> None:
        news = self._fetchers.news(round_, round_.observed.fetchers)
        await nodes.record_fetchers(round_.session, news)
        for beat in news:
            await self._take_cached(round_, beat.node_id, frozenset(beat.cached_units))

    async def _take_cached(self, round_: Round, node_id: str, cached: frozenset[str]) -> None:
        written = self._cached.get(node_id)
        if cached == written:
            return
        # Forgotten until the commit: whether one that fails took place is not known.
        self._cached.pop(node_id, None)
        if written is None:
            written = await nodes.load_cached_units(round_.session, node_id)
        await nodes.change_cached_units(
            round_.session, node_id, gone=written - cached, new=cached - written
        )
        round_.after_commit.append(lambda: self._cached.update({node_id: cached}))

    async def _take_gateways(self, round_: Round) -> None:
        if round_.now_s - self._gateways_at_s < WRITE_INTERVAL_S:
            return
        self._gateways_at_s = round_.now_s
        limit_s, hearing = round_.timing.gateway_lost_s, round_.observed.hearing
        heard = round_.observed.gateways
        speaking = [id_ for id_ in heard if hearing.silence_s(gateway_of(id_)) <= limit_s]
        await nodes.record_gateways(round_.session, speaking)


def _report(round_: Round, record: NodeRecord) -> NodeReport:
    heard = round_.observed.agents.of(record.id)
    lost_s, hearing = round_.timing.node_lost_s, round_.observed.hearing
    silence_s = max(hearing.silence_s(s) for s in (agent_of(record.id), fetcher_of(record.id)))
    boot_id = heard.heartbeat.boot_id if heard is not None else None
    accepted_version = heard.heartbeat.accepted_version if heard is not None else -1
    return NodeReport(
        node_id=record.id,
        is_lost=hearing.silence_s(agent_of(record.id)) > lost_s,
        is_fetcher_lost=hearing.silence_s(fetcher_of(record.id)) > lost_s,
        is_quiet=silence_s > round_.timing.node_quiet_s,
        is_heard=heard is not None,
        has_rebooted=boot_id is not None and record.agent_boot_id not in (None, boot_id),
        has_accepted=accepted_version >= record.desired_version,
    )
