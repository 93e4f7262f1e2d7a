"""Looking at the process table for what the agents run."""

from collections import defaultdict
from collections.abc import Iterable

from deploy.local.processes.procfs import all_pids, process_name, process_status
from services.worker.frames.process_names import STANDBY, ZYGOTE


def worker_processes(agent_pids: Iterable[int]) -> list[int]:
    """What the agents run but for those that wait for work."""
    found = ((pid, process_name(pid)) for pid in descendants(agent_pids))
    return [pid for pid, name in found if name not in (None, STANDBY, ZYGOTE)]


def descendants(pids: Iterable[int]) -> list[int]:
    """Every running process below `pids`."""
    children = _children_by_parent()
    found: list[int] = []
    frontier = list(pids)
    while frontier:
        below = children[frontier.pop()]
        found += below
        frontier += below
    return found


def _children_by_parent() -> defaultdict[int, list[int]]:
    children = defaultdict(list)
    for pid in all_pids():
        status = process_status(pid)
        if status is not None and status.is_running:
            children[status.parent_pid].append(pid)
    return children
