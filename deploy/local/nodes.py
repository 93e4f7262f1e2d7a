"""The nodes of an embedded stack: how many, and what each one has."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import NodeOptionsError
from libs.common.gpu_uuid import is_gpu_uuid
from libs.common.ids import is_id
from libs.common.settings import parse_size_bytes

MAX_NODES = 64
_KEYS = frozenset({"node_id", "nic", "memory", "cores", "host_cache", "gpu"})


@dataclass(frozen=True)
class NodeOptions:
    """One emulated server: its network link is a token bucket, its device a share of memory.

    The device is a part of this machine's processor, or of a GPU, which several nodes may share:
    `gpu` is its UUID, or its number as CUDA counts.
    """

    node_id: str
    nic_bytes_per_s: int = 50_000_000
    device_memory_bytes: int = 2 * 2**30
    cores: int = 1
    host_cache_bytes: int = 2**30
    gpu: int | str | None = None

    def __post_init__(self) -> None:
        if not is_id(self.node_id):
            raise NodeOptionsError("node_id", self.node_id, "lower-case letters, digits, - and _")
        for key in ("nic_bytes_per_s", "device_memory_bytes", "cores", "host_cache_bytes"):
            if getattr(self, key) < 1:
                raise NodeOptionsError(key, getattr(self, key), "at least 1")
        if not (self.gpu is None or _is_gpu(self.gpu)):
            raise NodeOptionsError("gpu", self.gpu, "a number from 0, GPU-<uuid> or MIG-<uuid>")

    @property
    def device(self) -> str:
        """As the agent is told of it."""
        kind = "cpu" if self.gpu is None else f"cuda:{self.gpu}"
        return f"{kind}:{self.device_memory_bytes}:{self.cores}"


def equal_nodes(count: int, common: Mapping[str, object]) -> tuple[NodeOptions, ...]:
    """`count` nodes alike, from the keys of a node's table. Raises NodeOptionsError."""
    if not 1 <= count <= MAX_NODES:
        raise NodeOptionsError("nodes", count, f"1 to {MAX_NODES}")
    defaults = {"cores": max(1, len(os.sched_getaffinity(0)) // count)}
    tables = [{**defaults, **common, "node_id": f"node-{i}"} for i in range(count)]
    return tuple(map(parse_node, tables))


def read_nodes(path: Path) -> tuple[NodeOptions, ...]:
    """The `[[nodes]]` tables of a TOML file. Raises NodeOptionsError."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise NodeOptionsError("file", str(path), f"a readable TOML file ({exc})") from exc
    tables = content.get("nodes")
    if not isinstance(tables, list) or not 1 <= len(tables) <= MAX_NODES:
        raise NodeOptionsError("nodes", tables, f"1 to {MAX_NODES} [[nodes]] tables in {path}")
    nodes = tuple(map(parse_node, tables))
    if len({node.node_id for node in nodes}) < len(nodes):
        raise NodeOptionsError("node_id", [node.node_id for node in nodes], "different ones")
    return nodes


def parse_node(table: object) -> NodeOptions:
    """One table: `node_id`; `nic`, `memory`, `host_cache` as sizes; `cores`; `gpu`."""
    if not isinstance(table, dict) or "node_id" not in table:
        raise NodeOptionsError("nodes", table, "tables with a node_id")
    if unknown := table.keys() - _KEYS:
        raise NodeOptionsError(min(unknown), table[min(unknown)], f"one of {sorted(_KEYS)}")
    defaults = NodeOptions(str(table["node_id"]))
    return NodeOptions(
        node_id=defaults.node_id,
        nic_bytes_per_s=_size(table, "nic", defaults.nic_bytes_per_s),
        device_memory_bytes=_size(table, "memory", defaults.device_memory_bytes),
        cores=_count(table, "cores", defaults.cores),
        host_cache_bytes=_size(table, "host_cache", defaults.host_cache_bytes),
        gpu=table.get("gpu"),
    )


def _is_gpu(value: object) -> bool:
    return (type(value) is int and value >= 0) or (isinstance(value, str) and is_gpu_uuid(value))


def _size(table: Mapping[str, object], key: str, default: int) -> int:
    value = table.get(key, default)
    try:
        return value if type(value) is int else parse_size_bytes(str(value))
    except ValueError as exc:
        raise NodeOptionsError(key, value, "a size such as 512Mi or 50M") from exc


def _count(table: Mapping[str, object], key: str, default: int) -> int:
    value = table.get(key, default)
    if type(value) is not int:
        raise NodeOptionsError(key, value, "a whole number")
    return value
