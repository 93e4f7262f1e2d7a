"""`hydraserve nodes` and `hydraserve status`: what there is and how it does."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import typer
from pydantic import BaseModel, ConfigDict

from deploy.cli.client import Client
from deploy.cli.commands.options import JsonOption
from deploy.cli.errors import TryLater
from deploy.cli.output.formatting import age, size
from deploy.cli.output.terminal import Terminal, listing
from deploy.cli.session import connect
from deploy.cli.views import Endpoint, Model, Node


class _Readiness(BaseModel):
    model_config = ConfigDict(frozen=True)

    status: str
    reasons: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        return self.status == "ready"


def nodes(context: typer.Context, as_json: JsonOption = False) -> None:
    """The servers: memory, network, cached weights, what runs on them."""
    terminal = Terminal()
    with connect(context) as client:
        reply = client.get("/api/v1/nodes")
    if as_json:
        terminal.show_json(reply.content)
        return
    held = ("DEVICES", "MEMORY HELD", "NETWORK", "CACHED", "WORKERS", "STANDBYS")
    headings = ("NODE", "HEARD", *held)
    now = datetime.now(UTC)
    found = reply.view(list[Node])
    terminal.show(listing(headings, [_row(node, now) for node in found]))
    for node in found:
        for complaint in node.complaints:
            terminal.show(f"{node.id} is invalid and counts as silent: its {complaint}")


def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """The server and all it holds, in a few lines. Exit code 5 while it is not ready."""
    terminal = Terminal()
    with connect(context) as client:
        readiness = client.probe("/readyz").view(_Readiness)
        if as_json:
            terminal.show_json(_everything(client, readiness))
        else:
            terminal.show(listing(("SERVER", client.target.url), _summary(client, readiness)))
    if not readiness.is_ready:
        raise TryLater(f"not ready: {', '.join(readiness.reasons)}; look at the server's log")


def _row(node: Node, now: datetime) -> tuple[str, ...]:
    heard = [node.agent_heard_at, node.fetcher_heard_at]
    oldest = None if None in heard else min(moment for moment in heard if moment is not None)
    network = f"{size(node.nic_bytes_per_s)}/s" if node.nic_bytes_per_s else "unlimited"
    return (
        node.id,
        "invalid" if node.complaints else age(oldest, now),
        _count(device.kind for device in node.devices),
        _of(_reserved([node]), _memory([node])),
        network,
        _of(node.cache_used_bytes, node.cache_capacity_bytes),
        str(len(node.workers)),
        str(node.num_standbys),
    )


def _summary(client: Client, readiness: _Readiness) -> list[tuple[str, str]]:
    models = client.get_list("/api/v1/models").view(list[Model])
    endpoints = client.get("/api/v1/endpoints").view(list[Endpoint])
    found = client.get("/api/v1/nodes").view(list[Node])
    cached = sum(node.cache_used_bytes for node in found)
    return [
        ("state", readiness.status),
        ("models", _count(model.state for model in models)),
        ("endpoints", _count(endpoint.state for endpoint in endpoints)),
        *(("", _endpoint(endpoint)) for endpoint in endpoints),
        ("nodes", str(len(found))),
        ("memory held", _of(_reserved(found), _memory(found))),
        ("host caches", size(cached)),
    ]


def _everything(client: Client, readiness: _Readiness) -> bytes:
    parts = {"models": json.loads(client.get_list("/api/v1/models").content)} | {
        name: json.loads(client.get(f"/api/v1/{name}").content) for name in ("endpoints", "nodes")
    }
    return json.dumps({"url": client.target.url, **readiness.model_dump(), **parts}).encode()


def _endpoint(endpoint: Endpoint) -> str:
    places = ", ".join(worker.node_id for worker in endpoint.workers)
    return f"{endpoint.model} {endpoint.state} on {places or 'no node'}"


def _count(values: Iterable[str]) -> str:
    """`2 READY, 1 FAILED`"""
    counted = sorted(Counter(values).items())
    return ", ".join(f"{number} {value}" for value, number in counted) or "none"


def _reserved(found: Iterable[Node]) -> int:
    return sum(device.reserved_bytes for node in found for device in node.devices)


def _memory(found: Iterable[Node]) -> int:
    return sum(device.memory_bytes for node in found for device in node.devices)


def _of(part: int, whole: int) -> str:
    return f"{size(part)} of {size(whole)}"
