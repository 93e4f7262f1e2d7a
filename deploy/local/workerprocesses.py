"""Looking at the process table for what the agents run."""

from collections import defaultdict
from collections.abc import Iterable

from deploy.local.procfs import all_pids, process_status


def descendants(pids: Iterable[int]) -> list[int]:
    """Every living process below `pids`."""
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
