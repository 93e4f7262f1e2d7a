"""The NATS server's configuration: JetStream on disk, one user per service, nothing for others."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.bus.subjects import Permissions

MAX_PAYLOAD_BYTES = 8 * 2**20  # none needs more than the default of 1 MiB any more


@dataclass(frozen=True)
class NatsUser:
    name: str
    password: str = field(repr=False)
    permissions: Permissions


@dataclass(frozen=True)
class NatsConfig:
    listen: str  # host:port for clients
    monitor: str | None  # host:port of the unauthenticated monitor; None: there is none
    store_dir: Path
    users: tuple[NatsUser, ...]


def render_config(config: NatsConfig) -> str:
    """The text of the file; JSON is a subset of the server's language."""
    content = {
        "server_name": "hydraserve",
        "listen": config.listen,
        **({} if config.monitor is None else {"http": config.monitor}),
        "max_payload": MAX_PAYLOAD_BYTES,
        # Acknowledged means on disk: a work queue's import survives the machine.
        "jetstream": {"store_dir": str(config.store_dir), "sync_interval": "always"},
        "authorization": {"users": [_render_user(user) for user in config.users]},
    }
    return json.dumps(content, indent=2)


def _render_user(user: NatsUser) -> dict[str, object]:
    permissions: dict[str, object] = {
        "publish": {"allow": list(user.permissions.publish)},
        "subscribe": {"allow": list(user.permissions.subscribe)},
        # Who may receive a request may answer it, once, wherever its reply goes.
        "allow_responses": True,
    }
    return {"user": user.name, "password": user.password, "permissions": permissions}
