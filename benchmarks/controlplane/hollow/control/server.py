"""Carries out what a driver asks, over a unix socket: one request a connection."""

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.controlplane.hollow.control.messages import (
    Envelope,
    KillWorkers,
    ReadStatus,
    Record,
    Reply,
    Request,
    Restart,
    SetSilent,
    Status,
    StopRecording,
)
from benchmarks.controlplane.hollow.journal import Journal
from benchmarks.controlplane.hollow.node import HollowNode

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 2**20


class ControlServer:
    def __init__(self, nodes: Mapping[str, HollowNode], journal: Journal) -> None:
        self._nodes, self._journal = nodes, journal

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call on a local file
        server = await asyncio.start_unix_server(self._serve, path, limit=MAX_REQUEST_BYTES)
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._answer(await reader.readline())
            writer.write(reply.model_dump_json().encode() + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError) as exc:
            logger.warning("a request to the control socket was not answered: %s", exc)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Reply:
        try:
            return await self.carry_out(Envelope.model_validate_json(line).request)
        except Exception as exc:  # whoever asked shall know
            logger.exception("a request to the control socket failed")
            return Reply(error=f"{type(exc).__name__}: {exc}")

    async def carry_out(self, request: Request) -> Reply:
        """Raises KeyError for a node that is not here, OSError, BusError."""
        match request:
            case Record():
                self._journal.open(request.path, request.heartbeat_sample_every)
            case StopRecording():
                self._journal.close()
            case SetSilent():
                for node in self._named(request.node_ids):
                    node.set_silent(request.is_silent)
            case Restart():
                await asyncio.gather(*(_restart(n, request) for n in self._named(request.node_ids)))
            case KillWorkers():
                return Reply(num_killed=self._kill(request.worker_ids))
            case ReadStatus():
                return Reply(status=self._status())
        return Reply()

    def _named(self, node_ids: Iterable[str]) -> list[HollowNode]:
        return [self._nodes[node_id] for node_id in node_ids]

    def _kill(self, worker_ids: Iterable[str]) -> int:
        launchers = [node.launcher for node in self._nodes.values()]
        return sum(launcher.kill(id_) for id_ in worker_ids for launcher in launchers)

    def _status(self) -> Status:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Status(
            num_nodes=len(self._nodes),
            num_connected=sum(node.is_connected for node in self._nodes.values()),
            num_workers=sum(node.launcher.num_processes for node in self._nodes.values()),
            cpu_s=usage.ru_utime + usage.ru_stime,
            resident_bytes=usage.ru_maxrss * 1024,
        )


async def _restart(node: HollowNode, request: Restart) -> None:
    if "fetcher" in request.services:
        await node.restart_fetcher()
    if "agent" in request.services:
        await node.restart_agent()
