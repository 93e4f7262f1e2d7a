"""Our NATS server: JetStream on disk, one user per service, nothing open to anybody else."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.environment import base_environment
from deploy.local.ports import LOOPBACK
from deploy.local.probes import answers_ok
from deploy.local.process import ChildProcess, ProcessSpec
from deploy.local.readiness import wait_until_ready
from libs.common.subjects import Permissions

MAX_PAYLOAD_BYTES = 8 * 2**20  # a prompt of the longest context as token ids
_READY_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class NatsUser:
    name: str
    password: str = field(repr=False)
    permissions: Permissions


@dataclass(frozen=True)
class NatsOptions:
    folder: Path
    log_path: Path
    port: int
    monitor_port: int
    users: tuple[NatsUser, ...]


class NatsServer:
    """Describes the server; `spec` runs it, `is_ready` asks it, `start` does both."""

    def __init__(self, options: NatsOptions) -> None:
        self.options = options
        self.url = f"nats://{LOOPBACK}:{options.port}"

    def prepare(self) -> None:
        """Writes the configuration. It holds passwords: only its owner may read it."""
        self.options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._config_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            file.write(render_config(self.options))

    @property
    def spec(self) -> ProcessSpec:
        binary = Path(sys.executable).with_name("nats-server")
        return ProcessSpec(
            name="nats",
            argv=(str(binary), "--config", str(self._config_path)),
            env=base_environment(),
            cwd=self.options.folder,
            log_path=self.options.log_path,
        )

    async def is_ready(self) -> bool:
        url = f"http://{LOOPBACK}:{self.options.monitor_port}/healthz?js-enabled-only=true"
        return await answers_ok(url)

    async def start(self) -> ChildProcess:
        """A running, ready server. Raises StartFailed."""
        self.prepare()
        child = ChildProcess(self.spec)
        await wait_until_ready(child, self.is_ready, _READY_TIMEOUT_S)
        return child

    @property
    def _config_path(self) -> Path:
        return self.options.folder / "nats.conf"


def render_config(options: NatsOptions) -> str:
    """The server's configuration; JSON is a subset of its language."""
    config = {
        "server_name": "hydraserve",
        "listen": f"{LOOPBACK}:{options.port}",
        "http": f"{LOOPBACK}:{options.monitor_port}",
        "max_payload": MAX_PAYLOAD_BYTES,
        # Acknowledged means on disk: a work queue's import survives the machine.
        "jetstream": {"store_dir": str(options.folder / "jetstream"), "sync_interval": "always"},
        "authorization": {"users": [_render_user(user) for user in options.users]},
    }
    return json.dumps(config, indent=2)


def _render_user(user: NatsUser) -> dict[str, object]:
    permissions: dict[str, object] = {
        "publish": {"allow": list(user.permissions.publish)},
        "subscribe": {"allow": list(user.permissions.subscribe)},
        # Who may receive a request may answer it, once, wherever its reply goes.
        "allow_responses": True,
    }
    return {"user": user.name, "password": user.password, "permissions": permissions}
