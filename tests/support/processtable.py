"""Looking for processes by their name, their parent and their arguments."""

from pathlib import Path

from deploy.local.processes.procfs import all_pids, process_name, process_status
from services.worker.agent.processes.launcher import RUNTIME_MODULE
from services.worker.agent.standby.zygote_parent import MODULE as STANDBY_MODULE

_OF_AGENTS = ([RUNTIME_MODULE], [STANDBY_MODULE])  # after `python -m`, and the agent's pid last


def children(parent_pid: int, name: str) -> set[int]:
    """Those that run."""
    return {pid for pid in all_pids() if _is_running_child(pid, parent_pid, name)}


def arguments_of(pid: int) -> list[str]:
    """Empty when there is no such process, or it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


def started_for(agent_pid: int) -> set[int]:
    """Zygote, standbys and workers of an agent that may have ended, whoever adopted them."""
    found = ((pid, arguments_of(pid)) for pid in all_pids())
    return {pid for pid, said in found if said[2:3] in _OF_AGENTS and said[-1] == str(agent_pid)}


def _is_running_child(pid: int, parent_pid: int, name: str) -> bool:
    status = process_status(pid)
    if status is None or not status.is_running or status.parent_pid != parent_pid:
        return False
    return process_name(pid) == name
