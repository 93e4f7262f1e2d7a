"""The agent of one hollow node: the real one over a hollow launcher."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.controlplane.hollow.settings import HollowSettings
from benchmarks.controlplane.hollow.workers.launcher import HollowLauncher
from libs.common.bus.bus import Bus
from libs.common.bus.messages import DeviceObserved
from libs.common.clock import SystemClock
from libs.common.ids import new_id
from services.worker.agent.agent import Agent
from services.worker.agent.devices.device import Device
from services.worker.agent.processes.watchdog import WatchdogLimits
from services.worker.agent.settings import DeviceKind

NO_SOCKET = Path("/nonexistent")  # hollow workers ask their fetcher in the same process


@dataclass(frozen=True)
class HollowGpu(Device):
    """Tells that it is a GPU; for its agent it is none, so no driver is asked about it."""

    @cached_property
    def observed(self) -> DeviceObserved:
        return super().observed.model_copy(update={"kind": "cuda"})


def devices_of(settings: HollowSettings) -> tuple[Device, ...]:
    told = settings.devices
    kind = HollowGpu if told.kind == "cuda" else Device
    return tuple(
        kind(index, DeviceKind.CPU, None, told.memory_bytes, told.cores)
        for index in range(told.count)
    )


def build_agent(
    settings: HollowSettings, node_id: str, bus: Bus, launcher: HollowLauncher
) -> Agent:
    return Agent(
        node_id=node_id,
        boot_id=new_id("boot"),
        devices=devices_of(settings),
        fetcher_socket=NO_SOCKET,
        launcher=launcher,
        bus=bus,
        clock=SystemClock(),
        limits=WatchdogLimits(engine_s=settings.engine_stall_s),
        missing_worker_s=settings.missing_worker_s,
    )
