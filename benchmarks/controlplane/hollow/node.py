"""One hollow node: a real agent and a real fetcher service, each with a bus and heartbeats."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from benchmarks.controlplane.hollow.agent import build_agent
from benchmarks.controlplane.hollow.fetching.fetcher import build_fetcher, initial_cache
from benchmarks.controlplane.hollow.fetching.unit_waiter import UnitWaiter
from benchmarks.controlplane.hollow.journal import Journal
from benchmarks.controlplane.hollow.observed_bus import ObservedBus
from benchmarks.controlplane.hollow.settings import HollowSettings
from benchmarks.controlplane.hollow.workers.data_plane import DataPlane
from benchmarks.controlplane.hollow.workers.launcher import HollowLauncher
from benchmarks.controlplane.hollow.workers.worker import WorkerParts
from libs.common.bus.bus import Bus, Subscription
from libs.common.cancellation import cancel_all
from services.fetcher import heartbeat as fetcher_heartbeat
from services.fetcher.fetching.ports import ManifestSource
from services.worker.agent import heartbeat as agent_heartbeat


@dataclass(frozen=True)
class NodeParts:
    """What the nodes of a process share, and this one's connections."""

    settings: HollowSettings
    manifests: ManifestSource
    number_of_unit: Callable[[str], int | None]  # of the catalogue's models
    journal: Journal
    plane: DataPlane
    agent_bus: Bus
    fetcher_bus: Bus


class HollowNode:
    """`start` it once. A restart is as after kill -9: its host cache is all that is left."""

    def __init__(self, node_id: str, parts: NodeParts) -> None:
        self.node_id, self._parts = node_id, parts
        self.agent_bus = ObservedBus(parts.agent_bus, node_id, "agent", parts.journal)
        self.fetcher_bus = ObservedBus(parts.fetcher_bus, node_id, "fetcher", parts.journal)
        self.cache = initial_cache(parts.settings, node_id, parts.number_of_unit)
        self._fetcher = build_fetcher(parts.settings, node_id, self.cache, parts.manifests)
        self._units = UnitWaiter(self._fetcher.sources, self.cache)
        self.launcher = self._new_launcher()
        self.agent = build_agent(parts.settings, node_id, self.agent_bus, self.launcher)
        self._is_silent = False
        self._subscriptions: list[Subscription] = []
        self._fetcher_beating: asyncio.Task[None] | None = None
        self._agent_beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises BusError."""
        await self._open_fetcher()
        await self._open_agent()

    async def stop(self) -> None:
        await self._close_agent()
        await self._close_fetcher()

    @property
    def is_connected(self) -> bool:
        return self.agent_bus.is_connected and self.fetcher_bus.is_connected

    def set_silent(self, is_silent: bool) -> None:
        """Whether its network is broken; it goes on with what it does."""
        self._is_silent = is_silent
        self.agent_bus.is_silent = self.fetcher_bus.is_silent = is_silent

    async def restart_agent(self) -> None:
        """Its workers end with it."""
        self.agent_bus.is_silent = True  # the dead say nothing of their end
        await self._close_agent()
        self.launcher = self._new_launcher()
        self.agent = build_agent(self._parts.settings, self.node_id, self.agent_bus, self.launcher)
        self.agent_bus.is_silent = self._is_silent
        await self._open_agent()

    async def restart_fetcher(self) -> None:
        self.fetcher_bus.is_silent = True
        await self._close_fetcher()
        parts = self._parts
        self.cache.drop_incomplete()
        self._fetcher = build_fetcher(parts.settings, self.node_id, self.cache, parts.manifests)
        self._units.follow(self._fetcher.sources)
        self.fetcher_bus.is_silent = self._is_silent
        await self._open_fetcher()

    def _new_launcher(self) -> HollowLauncher:
        settings = self._parts.settings
        chance = settings.chance(self.node_id, "workers")
        manifests, plane = self._parts.manifests, self._parts.plane
        return HollowLauncher(WorkerParts(settings, self._units, manifests, plane, chance))

    async def _open_agent(self) -> None:
        agent = self.agent
        await agent.open()
        self._agent_beating = self._beat(
            agent_heartbeat.send_heartbeats(
                agent.heartbeat,
                agent.was_sent,
                agent.heartbeat_trigger,
                self.agent_bus,
                self._parts.settings.health_file,
            ),
            "agent",
        )

    async def _close_agent(self) -> None:
        if self._agent_beating is not None:
            await cancel_all({self._agent_beating})
        await self.agent.close()

    async def _open_fetcher(self) -> None:
        service, bus = self._fetcher.service, self.fetcher_bus
        self._subscriptions = await service.listen(bus)
        self._fetcher_beating = self._beat(
            fetcher_heartbeat.send_heartbeats(
                service, self._fetcher.sources.changed, bus, self._parts.settings.health_file
            ),
            "fetcher",
        )

    async def _close_fetcher(self) -> None:
        if self._fetcher_beating is not None:
            await cancel_all({self._fetcher_beating})
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        await self._fetcher.sources.fetches.close()

    def _beat(self, work: Coroutine[None, None, None], who: str) -> "asyncio.Task[None]":
        return asyncio.create_task(work, name=f"heartbeats-{who}-{self.node_id}")
