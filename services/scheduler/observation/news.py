"""What of a heartbeat is new, of all that a decision could depend on. Pure."""

from dataclasses import dataclass

from libs.common.bus.messages import (
    AgentHeartbeat,
    DeviceObserved,
    FetcherHeartbeat,
    FetchObserved,
    WorkerObserved,
)

_NOBODY = frozenset[str]()


@dataclass(frozen=True)
class News:
    """`endpoints`: ids of those of whose workers it is. Of a node that is another one than before,
    by a restart or by its devices, it is of all that runs there. Else what it says of fetches, and
    of what it was told, matters to endpoints that start or end."""

    endpoints: frozenset[str] = _NOBODY
    is_of_node: bool = False


_OF_NODE, _OF_STARTS = News(is_of_node=True), News()


def news_of_agent(heartbeat: AgentHeartbeat, before: AgentHeartbeat | None) -> News | None:
    """None: it says what was said before."""
    if before is None or heartbeat.boot_id != before.boot_id:
        return _OF_NODE
    if not _are_as_before(heartbeat.devices, before.devices):
        return _OF_NODE
    if heartbeat.workers is not before.workers:
        endpoints = _changed_endpoints(heartbeat.workers, before.workers)
        if endpoints:
            return News(endpoints)
    return None if heartbeat.accepted_version == before.accepted_version else _OF_STARTS


def news_of_fetcher(heartbeat: FetcherHeartbeat, before: FetcherHeartbeat | None) -> News | None:
    """None: it says what was said before."""
    if before is None or heartbeat.boot_id != before.boot_id:
        return _OF_NODE
    is_old = heartbeat.accepted_version == before.accepted_version and (
        heartbeat.fetches is before.fetches or _states(heartbeat.fetches) == _states(before.fetches)
    )
    return None if is_old else _OF_STARTS


def _are_as_before(devices: tuple[DeviceObserved, ...], before: tuple[DeviceObserved, ...]) -> bool:
    # Two messages are compared field by field in Python, their fields are not.
    return devices is before or [d.__dict__ for d in devices] == [d.__dict__ for d in before]


def _changed_endpoints(
    workers: tuple[WorkerObserved, ...], before: tuple[WorkerObserved, ...]
) -> frozenset[str]:
    """Of those of whose workers any came, went, moved on, or began or ceased to work."""
    if len(workers) == len(before) and all(map(_is_as_before, workers, before)):
        return _NOBODY
    known = {worker.worker_id: worker for worker in before}
    changed = set()
    for worker in workers:
        old = known.pop(worker.worker_id, None)
        if old is None or not _is_as_before(worker, old):
            changed.add(worker.endpoint_id)
    changed.update(worker.endpoint_id for worker in known.values())
    return frozenset(changed)


def _is_as_before(worker: WorkerObserved, before: WorkerObserved) -> bool:
    return (
        worker.worker_id == before.worker_id
        and worker.endpoint_id == before.endpoint_id
        and worker.state is before.state
        and worker.generation == before.generation
        and worker.consolidation == before.consolidation
        and (worker.num_running + worker.num_waiting == 0)
        is (before.num_running + before.num_waiting == 0)
    )


def _states(fetches: tuple[FetchObserved, ...]) -> list[tuple[str, str]]:
    return [(fetch.fetch_id, fetch.state) for fetch in fetches]
