"""The processes behind the stages, as the kernel shows them."""

import os
import signal
from pathlib import Path

from deploy.local.stack import LocalStack
from tests.acceptance.observing import worker_arguments, worker_pids


def worker_of_node(stack: LocalStack, node_id: str) -> int | None:
    """The process of the node's only worker; there at once, before anybody was told of it."""
    agent_pid = str(stack.pid(f"agent-{node_id}"))
    found = (pid for pid in worker_pids(stack) if worker_arguments(pid)[-1:] == [agent_pid])
    return next(found, None)


def processor_s(pid: int) -> float:
    """What a process has computed so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def wake(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return  # its agent has ended it meanwhile


def processes_of_node(stack: LocalStack, node_id: str) -> list[int]:
    """Its agent, its fetcher and its worker."""
    services = (stack.pid(f"{service}-{node_id}") for service in ("agent", "fetcher"))
    return [pid for pid in (*services, worker_of_node(stack, node_id)) if pid is not None]
