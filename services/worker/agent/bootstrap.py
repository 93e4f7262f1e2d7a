"""Builds the agent from its settings and runs it until it is told to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.common.bus.bus import Bus, NatsBus
from libs.common.bus.subjects import Service
from libs.common.clock import SystemClock
from libs.common.ids import new_id
from libs.common.observability import telemetry
from libs.common.weights.store_order import require_store_order
from services.worker.agent.agent import Agent
from services.worker.agent.devices.device import Device
from services.worker.agent.devices.finding import find_devices
from services.worker.agent.heartbeat import send_heartbeats
from services.worker.agent.processes.launcher import Launcher, worker_environment
from services.worker.agent.settings import AgentSettings
from services.worker.agent.shares.node_compute import NodeCompute
from services.worker.agent.shares.opening import open_node_compute
from services.worker.agent.standby.launcher import StandbyLauncher
from services.worker.agent.standby.pool import StandbyPool

logger = logging.getLogger(__name__)


def configure(settings: AgentSettings) -> None:
    """What is process-wide: logging and tracing."""
    telemetry.configure_logging(f"agent {settings.node_id}", settings.log_level)
    telemetry.configure_tracing("worker", settings.node_id)


def build_agent(
    settings: AgentSettings,
    devices: tuple[Device, ...],
    bus: Bus,
    launcher: Launcher,
    compute: NodeCompute | None = None,
) -> Agent:
    return Agent(
        node_id=settings.node_id,
        boot_id=new_id("boot"),
        devices=devices,
        fetcher_socket=settings.fetcher_socket,
        launcher=launcher,
        bus=bus,
        clock=SystemClock(),
        data_plane=settings.data_plane,
        limits=settings.watchdog_limits,
        missing_worker_s=settings.missing_worker_s,
        compute=compute,
    )


async def run(settings: AgentSettings, machine: str | None = None) -> None:
    """Until SIGTERM or SIGINT.

    Raises UnsupportedMachine where workers may not read unit files, DeviceError when a device that
    the settings name is not there, SettingsError for caps that cannot be had here, and BusError
    when the bus cannot be reached at all. `machine` is for tests.
    """
    require_store_order(machine)
    devices = await asyncio.to_thread(find_devices, settings.devices)
    for device in devices:
        what = device.uuid or "this machine's processor"
        logger.info("device %d is %s, of %d bytes", device.index, what, device.memory_bytes)
    compute = open_node_compute(settings, devices)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop = _stop_event()
    async with _bus(settings) as bus:
        standbys = StandbyPool(settings.standby_runtimes, worker_environment(os.environ, None))
        launcher = StandbyLauncher(standbys, settings.run_dir, settings.standby_bind_timeout_s)
        agent = build_agent(settings, devices, bus, launcher, compute)
        await agent.open()
        filling = asyncio.create_task(
            standbys.keep_full(lambda: agent.is_quiet, lambda: agent.is_serving)
        )
        beating = asyncio.create_task(
            send_heartbeats(
                agent.heartbeat, agent.was_sent, agent.heartbeat_trigger, bus, settings.health_file
            )
        )
        try:
            await _stopped_or_failed(stop, beating)
        finally:
            beating.cancel()
            filling.cancel()
            await agent.close()
            await standbys.close()
            settings.health_file.unlink(missing_ok=True)


@asynccontextmanager
async def _bus(settings: AgentSettings) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(settings.bus, Service.WORKER, name=f"agent-{settings.node_id}")
    try:
        yield bus
    finally:
        await bus.close()


async def _stopped_or_failed(stop: asyncio.Event, beating: "asyncio.Task[None]") -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, beating}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if beating.done():  # it never ends by itself: its error ends the agent
        beating.result()


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
