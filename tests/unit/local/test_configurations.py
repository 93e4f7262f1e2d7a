"""What the launchers write and pass on."""

import json
from pathlib import Path

from deploy.bootstrap.nats_config import NatsUser, render_config
from deploy.local.processes.environment import base_environment
from deploy.local.servers.nats import NatsOptions
from deploy.local.state.ports import free_ports
from libs.common.bus.subjects import Permissions, Service, permissions_for


def config(*users: NatsUser) -> dict[str, object]:
    options = NatsOptions(Path("/state/nats"), Path("/state/nats.log"), 4222, users)
    rendered: dict[str, object] = json.loads(render_config(options.config))
    return rendered


def test_each_nats_user_has_the_permissions_of_the_subject_table() -> None:
    permissions = permissions_for(Service.GATEWAY)
    rendered = config(NatsUser("gateway", "secret", permissions))

    assert rendered["authorization"] == {
        "users": [
            {
                "user": "gateway",
                "password": "secret",
                "permissions": {
                    "publish": {"allow": list(permissions.publish)},
                    "subscribe": {"allow": list(permissions.subscribe)},
                    "allow_responses": True,
                },
            }
        ]
    }


def test_nats_listens_for_clients_on_loopback_and_syncs_before_it_acknowledges() -> None:
    rendered = config(NatsUser("a", "b", Permissions((), ())))

    assert rendered["listen"] == "127.0.0.1:4222"
    assert rendered.keys().isdisjoint({"http", "https", "monitor_port"}), "it asks no password"
    assert rendered["jetstream"] == {
        "store_dir": "/state/nats/jetstream",
        "sync_interval": "always",
    }


def test_children_get_nothing_that_says_what_to_connect_to() -> None:
    source = {
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        "OTEL_TRACES_EXPORTER": "otlp",
        "NATS_URL": "nats://elsewhere",
        "PGPASSWORD": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HTTP_PROXY": "http://proxy",
    }

    assert base_environment(source).keys() == {"PATH", "LC_ALL", "OTEL_TRACES_EXPORTER"}


def test_free_ports_are_different_and_outside_the_ephemeral_range() -> None:
    ports = free_ports(20)
    start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert len(set(ports)) == 20
    assert all(port < start or start < 17_000 for port in ports)
