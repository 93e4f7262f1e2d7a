"""The stack's processes with their probes: what is started, in which groups."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

from deploy.local.options import StackOptions
from deploy.local.processes.hang_detector import HangDetector
from deploy.local.processes.probes import also_answers, remove_before_start, touched_recently
from deploy.local.processes.process import ProcessSpec
from deploy.local.processes.readiness import Probe
from deploy.local.processes.supervised import SupervisedProcess
from deploy.local.servers.servers import Servers
from deploy.local.services import ServiceSpecs
from deploy.local.state.ports import LOOPBACK, free_ports

SERVER_TIMEOUT_S = 60.0  # Postgres may have a crash to recover from
SERVICE_TIMEOUT_S = 60.0  # several interpreters may start at once on few cores
_ANY_ADDRESS = "0.0.0.0"


class Assembly:
    """Describes processes; starts nothing. `shared_folder` is this run's folder in tmpfs."""

    def __init__(self, options: StackOptions, servers: Servers, shared_folder: Path) -> None:
        self._options = options
        self._servers = servers
        self._specs = ServiceSpecs(
            state=options.state,
            shared_folder=shared_folder,
            connections=servers.connections,
            modules=options.modules,
            start_mode=options.start_mode,
            standby_runtimes=options.standby_runtimes,
            extra=options.service_env,
        )
        ports = free_ports(options.num_gateways)
        self._gateway_ports = ports if options.port is None else [options.port, *ports[1:]]

    @property
    def gateway_urls(self) -> tuple[str, ...]:
        host = LOOPBACK if self._options.host == _ANY_ADDRESS else self._options.host
        return tuple(f"http://{host}:{port}" for port in self._gateway_ports)

    async def prepare_servers(self) -> None:
        """Writes configurations and makes the database cluster. Raises LocalStackError."""
        self._servers.nats.prepare()
        self._servers.s3.prepare()
        await self._servers.postgres.prepare()

    def servers(self) -> Iterator[SupervisedProcess]:
        nats, postgres, s3 = self._servers.nats, self._servers.postgres, self._servers.s3
        yield self._server(nats.spec, nats.is_ready)
        yield self._server(postgres.spec, postgres.is_ready, postgres.cluster.end_stale_server)
        yield self._server(s3.spec, s3.is_ready)

    def schedulers(self) -> Iterator[SupervisedProcess]:
        for index in range(self._options.num_schedulers):
            yield self._service(self._specs.scheduler(index))

    def nodes(self) -> Iterator[SupervisedProcess]:
        roots = (self._options.state.sources, *self._options.import_roots)
        for node in self._options.nodes:
            yield self._service(self._specs.fetcher(node, roots))
            yield self._service(self._specs.agent(node))

    def gateways(self) -> Iterator[SupervisedProcess]:
        for index, port in enumerate(self._gateway_ports):
            spec = self._specs.gateway(index, self._options.host, port)
            yield self._service(spec, health_url=f"{self.gateway_urls[index]}/healthz")

    def _server(
        self,
        spec: ProcessSpec,
        probe: Probe,
        before_start: Callable[[], Awaitable[None]] | None = None,
    ) -> SupervisedProcess:
        marked = replace(spec, env={**spec.env, **self._specs.mark})
        return SupervisedProcess(
            marked, probe, ready_timeout_s=SERVER_TIMEOUT_S, before_start=before_start
        )

    def _service(self, spec: ProcessSpec, health_url: str | None = None) -> SupervisedProcess:
        health_file = self._specs.health_file(spec.name)
        probe = touched_recently(health_file)
        return SupervisedProcess(
            spec,
            probe if health_url is None else also_answers(probe, health_url),
            ready_timeout_s=SERVICE_TIMEOUT_S,
            before_start=remove_before_start(health_file),
            hang_detector=HangDetector(touched_recently(health_file)),
        )
