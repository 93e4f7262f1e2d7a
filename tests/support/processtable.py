"""Looking for processes by their name and their parent."""

from pathlib import Path

from deploy.local.procfs import all_pids, process_status


def process_name(pid: int) -> str | None:
    """As `ps -o comm` shows it; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None


def children(parent_pid: int, name: str) -> set[int]:
    """Those that run."""
    return {pid for pid in all_pids() if _is_running_child(pid, parent_pid, name)}


def _is_running_child(pid: int, parent_pid: int, name: str) -> bool:
    status = process_status(pid)
    if status is None or not status.is_running or status.parent_pid != parent_pid:
        return False
    return process_name(pid) == name
