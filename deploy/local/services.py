"""How each service of the stack is started: its module and its environment."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.nodes import NodeOptions
from deploy.local.processes.environment import base_environment
from deploy.local.processes.process import ProcessSpec
from deploy.local.state.state_folder import StateFolder
from libs.common.startmode import StartMode

STATE_VARIABLE = "HYDRASERVE_SUPERVISED_STATE"  # marks our processes, for the sweep
_PROJECT = Path(__file__).parents[2]
_STOP_TIMEOUT_S = 15.0
_GATEWAY_DRAIN_S = 5.0  # for open streams; the rest of the stop timeout is for ending them

MODULES: Mapping[str, str] = {
    "scheduler": "services.scheduler",
    "gateway": "services.gateway",
    "fetcher": "services.fetcher",
    "agent": "services.worker",
}


@dataclass(frozen=True)
class Connections:
    """Where the servers are, and the files that hold the credentials for them, by service."""

    nats_url: str
    nats_password_files: Mapping[str, Path]
    database_urls: Mapping[str, str]
    database_password_files: Mapping[str, Path]
    s3_endpoint: str
    s3_bucket: str
    s3_access_key_files: Mapping[str, Path]
    s3_secret_key_files: Mapping[str, Path]
    api_key_file: Path


@dataclass(frozen=True)
class ServiceSpecs:
    """Makes one ProcessSpec per service. `extra` overrides what is set here, by full name."""

    state: StateFolder
    shared_folder: Path
    connections: Connections
    modules: Mapping[str, str] = field(default_factory=lambda: MODULES)
    start_mode: StartMode = StartMode.HYDRA
    standby_runtimes: int = 1
    extra: Mapping[str, str] = field(default_factory=dict)

    def scheduler(self, index: int) -> ProcessSpec:
        name = f"scheduler-{index}"
        variables = {
            "SCHEDULER_ID": name,
            "START_MODE": self.start_mode.value,
            **self._database("scheduler"),
        }
        return self._spec("scheduler", name, variables)

    def gateway(self, index: int, host: str, port: int) -> ProcessSpec:
        name = f"gateway-{index}"
        variables = {
            "GATEWAY_ID": name,
            "GATEWAY_HOST": host,
            "GATEWAY_PORT": str(port),
            "GATEWAY_DRAIN_TIMEOUT_S": str(_GATEWAY_DRAIN_S),
            "BOOTSTRAP_API_KEY_FILE": str(self.connections.api_key_file),
            **self._database("gateway"),
            **self._object_store("gateway"),
        }
        return self._spec("gateway", name, variables)

    def fetcher(self, node: NodeOptions, import_roots: tuple[Path, ...]) -> ProcessSpec:
        variables = {
            **self._node(node),
            "SHM_DIR": str(self.shared_folder / node.node_id),
            "NIC_BYTES_PER_S": str(node.nic_bytes_per_s),
            "HOST_CACHE_BYTES": str(node.host_cache_bytes),
            "IMPORT_ROOTS": ":".join(map(str, import_roots)),
            "SCRATCH_DIR": str(self.state.node(node.node_id) / "scratch"),
            # All processes are one user's here, with or without Landlock.
            "CONVERT_UNCONFINED": "1",
            **self._object_store("fetcher"),
        }
        return self._spec("fetcher", f"fetcher-{node.node_id}", variables)

    def agent(self, node: NodeOptions) -> ProcessSpec:
        variables = {
            **self._node(node),
            "DEVICES": node.device,
            "RUN_DIR": str(self.state.node(node.node_id) / "agent"),
            "STANDBY_RUNTIMES": str(self.standby_runtimes),
        }
        return self._spec("agent", f"agent-{node.node_id}", variables)

    def health_file(self, name: str) -> Path:
        return self.state.health / name

    def _spec(self, service: str, name: str, variables: Mapping[str, str]) -> ProcessSpec:
        ours = {
            "NATS_URL": self.connections.nats_url,
            # The bus knows a node's agent as its worker service.
            "NATS_USER": "worker" if service == "agent" else service,
            "NATS_PASSWORD_FILE": str(self.connections.nats_password_files[service]),
            "HEALTH_FILE": str(self.health_file(name)),
            "TRACE_DIR": str(self.state.traces),
            **variables,
        }
        prefixed = {f"HYDRA_{key}": value for key, value in ours.items()}
        return ProcessSpec(
            name=name,
            argv=(sys.executable, "-m", self.modules[service]),
            env=base_environment() | prefixed | dict(self.extra) | self.mark,
            cwd=_PROJECT,
            log_path=self.state.log(name),
            stop_timeout_s=_STOP_TIMEOUT_S,
        )

    @property
    def mark(self) -> dict[str, str]:
        """What every process of this state folder has in its environment."""
        return {STATE_VARIABLE: str(self.state.path)}

    def _node(self, node: NodeOptions) -> dict[str, str]:
        """The sockets lie in the shared folder for its short path: a socket's has 107 bytes."""
        sockets = self.shared_folder / "sockets" / node.node_id
        return {"NODE_ID": node.node_id, "SOCKET_DIR": str(sockets)}

    def _database(self, service: str) -> dict[str, str]:
        return {
            "DATABASE_URL": self.connections.database_urls[service],
            "DATABASE_PASSWORD_FILE": str(self.connections.database_password_files[service]),
        }

    def _object_store(self, service: str) -> dict[str, str]:
        return {
            "S3_ENDPOINT": self.connections.s3_endpoint,
            "S3_BUCKET": self.connections.s3_bucket,
            "S3_ACCESS_KEY_FILE": str(self.connections.s3_access_key_files[service]),
            "S3_SECRET_KEY_FILE": str(self.connections.s3_secret_key_files[service]),
        }
