"""Runs many hollow nodes in one process until it is told to stop."""

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.controlplane.hollow.control.server import ControlServer
from benchmarks.controlplane.hollow.fetching.manifests import CatalogueManifests
from benchmarks.controlplane.hollow.journal import Journal
from benchmarks.controlplane.hollow.node import HollowNode, NodeParts
from benchmarks.controlplane.hollow.settings import HollowSettings
from benchmarks.controlplane.hollow.workers.data_plane import DataPlane
from libs.common.bus.bus import NatsBus
from libs.common.bus.subjects import Service
from libs.common.observability import telemetry

logger = logging.getLogger(__name__)

# Thousands of workers are millions of objects: looking through all of them stops every node of the
# process for half a second, so only young ones are looked at.
GC_THRESHOLDS = (20_000, 50, 1_000_000)
STOPPING_AT_ONCE = 16


def configure(settings: HollowSettings) -> None:
    """What is process-wide: logging, and descriptors, of which each worker has two."""
    telemetry.configure_logging(f"hollow {settings.name_prefix}", settings.log_level)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run(settings: HollowSettings) -> None:
    """Until SIGTERM or SIGINT; prints a line when all nodes run. Raises BusError, OSError."""
    stop = _stop_event()
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = Journal()
    async with _running_nodes(settings, journal) as nodes:
        server = ControlServer({node.node_id: node for node in nodes}, journal)
        async with server.serving(settings.control_socket):
            gc.collect()
            gc.freeze()  # what start-up made stays: never look through it again
            gc.set_threshold(*GC_THRESHOLDS)
            print(f"{len(nodes)} hollow nodes run", flush=True)
            await stop.wait()
    journal.close()


@asynccontextmanager
async def _running_nodes(
    settings: HollowSettings, journal: Journal
) -> AsyncIterator[tuple[HollowNode, ...]]:
    limit = asyncio.Semaphore(settings.connecting_at_once)
    manifests, plane = CatalogueManifests(settings.catalogue), await DataPlane.open()
    buses: list[NatsBus] = []

    async def start(node_id: str) -> HollowNode:
        async with limit:
            agent_bus = await _connected(settings, Service.WORKER, node_id)
            buses.append(agent_bus)
            fetcher_bus = await _connected(settings, Service.FETCHER, node_id)
            buses.append(fetcher_bus)
            known = manifests.number_of_unit
            parts = NodeParts(settings, manifests, known, journal, plane, agent_bus, fetcher_bus)
            node = HollowNode(node_id, parts)
            await node.start()
            return node

    nodes: tuple[HollowNode, ...] = ()
    try:
        nodes = tuple(await asyncio.gather(*map(start, settings.node_ids())))
        yield nodes
    finally:
        await _stop_all(nodes)
        plane.close()
        await asyncio.gather(*(bus.close() for bus in buses))


async def _stop_all(nodes: tuple[HollowNode, ...]) -> None:
    """They say nothing more: whoever ends this process does not look at them any longer."""
    limit = asyncio.Semaphore(STOPPING_AT_ONCE)

    async def stop(node: HollowNode) -> None:
        async with limit:
            await node.stop()

    for node in nodes:
        node.set_silent(True)
    await asyncio.gather(*map(stop, nodes))


async def _connected(settings: HollowSettings, service: Service, node_id: str) -> NatsBus:
    nats = settings.nats
    user = nats.worker if service is Service.WORKER else nats.fetcher
    who = "agent" if service is Service.WORKER else "fetcher"
    return await NatsBus.connect(nats.of(user), service, name=f"{who}-{node_id}")


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
