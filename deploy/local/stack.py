"""The whole stack under one supervisor: started in order, kept running, stopped in order.

    async with LocalStack(StackOptions(state, nodes)) as stack:
        ...  # stack.gateway_url, stack.api_key

Nothing outlives it: children die with this process, and what a killed supervisor could not
remove is removed by the next start.
"""

import asyncio
import logging
import shutil
import signal
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from deploy.local.assembly import Assembly
from deploy.local.errors import ENLARGE_SHARED_MEMORY
from deploy.local.options import StackOptions
from deploy.local.processes.orphans import end_orphans, has_variable
from deploy.local.processes.supervised import SupervisedProcess
from deploy.local.servers.servers import Servers
from deploy.local.services import STATE_VARIABLE
from deploy.local.state.host_caches import fit_to_memory, require_room, total_bytes
from deploy.local.state.log_files import keep_small
from deploy.local.state.shared_folder import shared_folder, sweep_shared_folders

logger = logging.getLogger(__name__)
_SWEEP_TIMEOUT_S = 10.0


class LocalStack:
    """Enter it once. Raises StateFolderBusy, StateFolderError, SharedMemoryTooSmall, StartFailed,
    PrivilegeError. `options` are as given until then, with smaller host caches afterwards if the
    machine's shared memory is small."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        self._state = options.state
        self._stages: list[list[SupervisedProcess]] = []
        self._processes: dict[str, SupervisedProcess] = {}
        self._cleanup = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as cleanup:
            cleanup.enter_context(self._state.locked())
            await self._sweep()
            folder = cleanup.enter_context(shared_folder())
            self._fit_host_caches(folder)
            cleanup.push_async_callback(self._stop_all)
            self._keep_logs_small(cleanup)
            await self._start_all(folder)
            self._cleanup = cleanup.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._cleanup.aclose()

    @property
    def gateway_url(self) -> str:
        """Of the first gateway, as a client on this machine reaches it."""
        return self.gateway_urls[0]

    @property
    def gateway_urls(self) -> tuple[str, ...]:
        return self._assembly.gateway_urls

    @property
    def api_key(self) -> str:
        return self.servers.api_key

    @property
    def processes(self) -> Mapping[str, SupervisedProcess]:
        """By name: nats, postgres, s3, scheduler-0, gateway-0, fetcher-<node>, agent-<node>."""
        return MappingProxyType(self._processes)

    def pid(self, name: str) -> int | None:
        """None while it is down."""
        return self._processes[name].pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """It is started again after a short pause, unless it is held."""
        self._processes[name].send_signal(number)

    def hold(self, name: str) -> None:
        """Once it ends it stays down until `start`."""
        self._processes[name].hold()

    async def start(self, name: str) -> None:
        """Ends a hold and returns when the process is ready. Raises StartFailed."""
        await self._processes[name].start()

    async def wait_ready(self, name: str) -> None:
        """Raises StartFailed when it does not come back in time."""
        await self._processes[name].wait_ready()

    def log_tails(self) -> dict[str, str]:
        """The end of what each running or ended child has logged."""
        return {name: process.log_tail() for name, process in self._processes.items()}

    def _keep_logs_small(self, cleanup: AsyncExitStack) -> None:
        keeping = asyncio.create_task(
            keep_small((self._state.logs, self._state.traces)), name="keep logs small"
        )
        cleanup.callback(keeping.cancel)

    async def _sweep(self) -> None:
        """What a killed supervisor of this folder, or of any, left behind."""
        orphans = has_variable(STATE_VARIABLE, str(self._state.path))
        if count := await asyncio.to_thread(end_orphans, orphans, _SWEEP_TIMEOUT_S):
            logger.warning("ended %d processes of an earlier supervisor", count)
        for folder in sweep_shared_folders():
            logger.warning("removed %s of an earlier supervisor", folder)

    async def _start_all(self, folder: Path) -> None:
        self._make_folders(folder)
        self.servers = Servers.describe(self._state, s3_processes=self.options.s3_processes)
        self._assembly = Assembly(self.options, self.servers, folder)
        await self._assembly.prepare_servers()
        await self._start_together(self._assembly.servers())
        await self.servers.postgres.create_roles_and_database()
        await self._start_together(self._assembly.schedulers())
        await self._start_together(self._assembly.nodes())
        await self._start_together(self._assembly.gateways())
        self._state.gateway_url.write_text(f"{self.gateway_url}\n")

    def _make_folders(self, shared: Path) -> None:
        shutil.rmtree(self._state.health, ignore_errors=True)
        for folder in (self._state.health, self._state.traces, self._state.sources):
            folder.mkdir(mode=0o700, exist_ok=True)
        for node in self.options.nodes:
            (shared / node.node_id).mkdir(mode=0o700)
            (shared / "sockets" / node.node_id).mkdir(mode=0o700, parents=True)
            for name in ("scratch", "agent"):
                (self._state.node(node.node_id) / name).mkdir(
                    mode=0o700, parents=True, exist_ok=True
                )

    def _fit_host_caches(self, shared: Path) -> None:
        """Containers often have 64 MB of shared memory: enough to start, not to hold a model."""
        usage, wanted = shutil.disk_usage(shared), self.options.nodes
        if usage.total == 0:  # a tmpfs without a limit
            return
        nodes = fit_to_memory(wanted, usage.free)
        require_room(nodes, usage.free, self.options.min_cached_bytes)
        if nodes != wanted:
            logger.warning(
                "shared memory has %d MB free, the nodes' host caches want %d MB: they get %d MB "
                "together, and larger models will not start; %s",
                usage.free // 10**6,
                total_bytes(wanted) // 10**6,
                total_bytes(nodes) // 10**6,
                ENLARGE_SHARED_MEMORY,
            )
        self.options = replace(self.options, nodes=nodes)

    async def _start_together(self, processes: Iterable[SupervisedProcess]) -> None:
        stage = list(processes)
        self._stages.append(stage)
        self._processes |= {process.spec.name: process for process in stage}
        try:
            async with asyncio.TaskGroup() as group:
                for process in stage:
                    group.create_task(process.start())
        except ExceptionGroup as failures:
            # The first one tells the cause; the others were cancelled for it.
            raise failures.exceptions[0] from None
        logger.info("ready: %s", ", ".join(process.spec.name for process in stage))

    async def _stop_all(self) -> None:
        """Gateways first, so that intake stops; the servers last, that the others end with."""
        logger.info("stopping")
        self._state.gateway_url.unlink(missing_ok=True)
        try:
            for stage in reversed(self._stages):
                await asyncio.gather(*(process.stop() for process in stage))
            logger.info("stopped")
        finally:
            for process in self._processes.values():
                process.kill_now()
