"""Which idle endpoints give way to a model that waits for memory. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.scheduler.cluster import Cluster, Device, Endpoint


@dataclass(frozen=True)
class _Choice:
    victims: tuple[Endpoint, ...]

    @property
    def rank(self) -> tuple[int, float]:
        """Fewest endpoints first, then those that are idle longest."""
        return (len(self.victims), -sum(victim.idle_s or 0.0 for victim in self.victims))


def endpoints_to_drain(
    cluster: Cluster, endpoints: Sequence[Endpoint], idle: Iterable[Endpoint], needed_bytes: int
) -> tuple[Endpoint, ...]:
    """The smallest set of `idle` endpoints whose end makes room on one device.

    Empty when memory that is already being freed will do, or when nothing would help.
    """
    leaving = [
        endpoint
        for endpoint in endpoints
        if endpoint.state.is_finished or not endpoint.state.can_take_requests
    ]
    idle = sorted(idle, key=lambda endpoint: -(endpoint.idle_s or 0.0))
    choices = [_on_device(device, leaving, idle, needed_bytes) for device in cluster.devices]
    possible = [choice for choice in choices if choice is not None]
    return min(possible, key=lambda choice: choice.rank).victims if possible else ()


def _on_device(
    device: Device, leaving: Sequence[Endpoint], idle: Sequence[Endpoint], needed_bytes: int
) -> _Choice | None:
    room = device.free_bytes + sum(_bytes_on(device, endpoint) for endpoint in leaving)
    victims: list[Endpoint] = []
    for endpoint in idle:
        if room >= needed_bytes:
            break
        freed = _bytes_on(device, endpoint)
        if freed:
            victims.append(endpoint)
            room += freed
    return _Choice(tuple(victims)) if room >= needed_bytes else None


def _bytes_on(device: Device, endpoint: Endpoint) -> int:
    return sum(
        worker.device_bytes
        for worker in endpoint.workers
        if worker.node_id == device.node_id and worker.device_index == device.index
    )
