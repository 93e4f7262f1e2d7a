"""Takes the devices and engines that agents tell of into their rows, all nodes' together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import AgentHeartbeat, DeviceObserved, EngineObserved
from services.scheduler.policy.cluster import Device
from services.scheduler.policy.planning.usable_cluster import by_node
from services.scheduler.store import devices


@dataclass(frozen=True)
class WrittenHardware:
    """By node, the devices of those of which anything has changed; and what is to be remembered
    once that has committed."""

    devices: dict[str, tuple[Device, ...]]
    has_new_sizes: bool = False  # whether any node offers other devices than before
    after_commit: tuple[Callable[[], None], ...] = ()


@dataclass
class HardwareRecords:
    """Remembers what it has written, by node."""

    _devices: dict[str, tuple[DeviceObserved, ...]] = field(default_factory=dict)
    _engines: dict[str, tuple[EngineObserved, ...]] = field(default_factory=dict)

    async def write(
        self, session: AsyncSession, agents: Sequence[AgentHeartbeat]
    ) -> WrittenHardware:
        offered = {b.node_id: b.devices for b in agents if self._has_new_devices(b)}
        measured = {b.node_id: b.engines for b in agents if self._has_new_engines(b)}
        changed = offered.keys() | measured.keys()
        if not changed:
            return WrittenHardware({})
        await devices.record_devices(session, offered)
        await devices.record_engines(session, measured)
        found = by_node(await devices.load_devices(session, changed))
        return WrittenHardware(
            {node_id: found.get(node_id, ()) for node_id in changed},
            bool(offered),
            (lambda: self._devices.update(offered), lambda: self._engines.update(measured)),
        )

    def forget(self, node_ids: Iterable[str]) -> None:
        """Their rows are gone."""
        for node_id in node_ids:
            self._devices.pop(node_id, None)
            self._engines.pop(node_id, None)

    def keep_only(self, node_ids: set[str]) -> None:
        for known in (self._devices, self._engines):
            for node_id in known.keys() - node_ids:
                del known[node_id]

    def _has_new_devices(self, beat: AgentHeartbeat) -> bool:
        return self._devices.get(beat.node_id) != beat.devices

    def _has_new_engines(self, beat: AgentHeartbeat) -> bool:
        return self._engines.get(beat.node_id, ()) != beat.engines
