"""Looking for processes by their name and their parent."""

from deploy.local.procfs import all_pids, process_name, process_status


def children(parent_pid: int, name: str) -> set[int]:
    """Those that run."""
    return {pid for pid in all_pids() if _is_running_child(pid, parent_pid, name)}


def _is_running_child(pid: int, parent_pid: int, name: str) -> bool:
    status = process_status(pid)
    if status is None or not status.is_running or status.parent_pid != parent_pid:
        return False
    return process_name(pid) == name
