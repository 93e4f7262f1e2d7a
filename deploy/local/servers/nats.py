"""Our NATS server, on loopback only."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.bootstrap.nats_config import NatsConfig, NatsUser, render_config
from deploy.local.processes.environment import base_environment
from deploy.local.processes.process import ChildProcess, ProcessSpec
from deploy.local.processes.readiness import wait_until_ready
from deploy.local.state.ports import LOOPBACK

_READY_TIMEOUT_S = 15.0
_GREETING_TIMEOUT_S = 2.0
_GREETING = b"INFO "  # then JSON on the same line, before a client has said anything


@dataclass(frozen=True)
class NatsOptions:
    folder: Path
    log_path: Path
    port: int
    users: tuple[NatsUser, ...]

    @property
    def config(self) -> NatsConfig:
        """Nobody but this machine reaches it."""
        return NatsConfig(
            listen=f"{LOOPBACK}:{self.port}",
            monitor=None,  # it would answer every user of this machine
            store_dir=self.folder / "jetstream",
            users=self.users,
        )


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
            file.write(render_config(self.options.config))

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
        """It greets clients only when JetStream has recovered what it holds."""
        try:
            async with asyncio.timeout(_GREETING_TIMEOUT_S):
                return _has_jetstream(await _greeting(self.options.port))
        except (OSError, TimeoutError):
            return False

    async def start(self) -> ChildProcess:
        """A running, ready server. Raises StartFailed."""
        self.prepare()
        child = ChildProcess(self.spec)
        await wait_until_ready(child, self.is_ready, _READY_TIMEOUT_S)
        return child

    @property
    def _config_path(self) -> Path:
        return self.options.folder / "nats.conf"


async def _greeting(port: int) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        return await reader.readline()
    finally:
        writer.close()


def _has_jetstream(greeting: bytes) -> bool:
    """Of a whole greeting; a server that is ending may cut it short."""
    if not (greeting.startswith(_GREETING) and greeting.endswith(b"\n")):
        return False
    return bool(json.loads(greeting[len(_GREETING) :]).get("jetstream"))
