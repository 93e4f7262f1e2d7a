"""What the nodes' host caches can have of the one shared memory of this machine. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from deploy.local.errors import SharedMemoryTooSmall
from deploy.local.nodes import NodeOptions

_OTHERS = 16  # a sixteenth stays for who else uses shared memory, Postgres among them


def total_bytes(nodes: Iterable[NodeOptions]) -> int:
    return sum(node.host_cache_bytes for node in nodes)


def fit_to_memory(nodes: tuple[NodeOptions, ...], free_bytes: int) -> tuple[NodeOptions, ...]:
    """All caches smaller by one factor where together they would not fit `free_bytes`: a node
    that is promised more than there is gets weights that it cannot take."""
    wanted_bytes, room_bytes = total_bytes(nodes), free_bytes - free_bytes // _OTHERS
    if wanted_bytes <= room_bytes:
        return nodes
    return tuple(
        replace(node, host_cache_bytes=max(1, node.host_cache_bytes * room_bytes // wanted_bytes))
        for node in nodes
    )


def require_room(nodes: tuple[NodeOptions, ...], free_bytes: int, needed_bytes: int) -> None:
    """Raises SharedMemoryTooSmall unless the caches hold `needed_bytes` together."""
    if total_bytes(nodes) < needed_bytes:
        raise SharedMemoryTooSmall(free_bytes, total_bytes(nodes), needed_bytes)
