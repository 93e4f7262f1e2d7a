"""What a measurement waits for before a start: nothing else goes on, and standbys are there."""

from deploy.local.processes.procfs import process_name
from deploy.local.processes.worker_processes import descendants
from deploy.local.report.api import ApiClient
from deploy.local.stack import LocalStack
from services.worker.frames.process_names import STANDBY
from tests.support.waiting import eventually

TIMEOUT_S = 120.0


async def until_at_rest(api: ApiClient) -> None:
    """No worker is left, and no device memory is reserved."""

    async def is_at_rest() -> bool:
        nodes = await api.nodes()
        return not any(node.reserved_bytes or node.num_workers for node in nodes)

    await eventually(is_at_rest, timeout_s=TIMEOUT_S, poll_s=0.1, what="nodes at rest")


async def until_standbys(stack: LocalStack, count: int) -> None:
    """So many processes that have imported everything wait on the stack's nodes."""
    agents = [name for name in stack.processes if name.startswith("agent-")]

    def are_there() -> bool:
        pids = descendants(pid for name in agents if (pid := stack.pid(name)))
        return sum(process_name(pid) == STANDBY for pid in pids) >= count

    await eventually(are_there, timeout_s=TIMEOUT_S, poll_s=0.2, what="the standbys")
