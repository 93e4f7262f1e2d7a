"""Shares of the processor as real processes get them, and as a real agent gives and tells them."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from libs.common.bus.messages import AgentHeartbeat, Generate, WorkerObserved
from libs.common.states import WorkerState
from services.worker.agent.shares.cgroup import ROOT, CgroupShares, open_cgroup, own_cgroup
from services.worker.agent.shares.cpu_shares import CpuShare, CpuShares
from services.worker.agent.shares.nice import NiceShares
from services.worker.errors import CgroupUnavailable
from services.worker.runtime.compute.cpu_times import read_thread_times
from tests.integration.servers import RunningNats
from tests.integration.worker.agents import Cluster, RunningAgent, request_for, send
from tests.support.waiting import eventually

BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
MIB = 2**20


def cgroups(tmp_path: Path) -> CpuShares:
    try:
        own = own_cgroup(Path("/proc/self/cgroup").read_text(), ROOT)
        return CgroupShares(open_cgroup(own, tmp_path.name.replace("_", "-")), are_caps=False)
    except CgroupUnavailable as exc:
        pytest.skip(f"no cgroup of version 2: {exc}")


@pytest.fixture(params=["cgroup", "nice"])
def shares(request: pytest.FixtureRequest, tmp_path: Path) -> CpuShares:
    return cgroups(tmp_path) if request.param == "cgroup" else NiceShares()


@pytest.fixture
def rivals() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Two processes that want all of one core, each the leader of its session as a worker is."""
    core = str(max(os.sched_getaffinity(0)))
    command = [sys.executable, "-S", "-c", BUSY, core]
    running = [subprocess.Popen(command, start_new_session=True) for _ in range(2)]
    yield running
    for process in running:
        process.kill()
        process.wait(10)


def run_s(process: "subprocess.Popen[bytes]") -> float:
    times = read_thread_times(Path(f"/proc/{process.pid}/task"))
    if not times:
        pytest.skip("this kernel counts no thread's time")
    return sum(time.run_ns for time in times.values()) / 1e9


async def cpu_times(rivals: list["subprocess.Popen[bytes]"], total_s: float) -> list[float]:
    """What each gets while both together use so much."""
    before = [run_s(process) for process in rivals]

    def used() -> list[float]:
        return [run_s(process) - was for process, was in zip(rivals, before, strict=True)]

    await eventually(lambda: sum(used()) >= total_s, timeout_s=60, what="the use of a core")
    return used()


async def test_two_that_want_the_same_core_get_it_by_their_weights(
    shares: CpuShares, rivals: list["subprocess.Popen[bytes]"]
) -> None:
    large, small = rivals
    shares.apply(
        [
            CpuShare("worker-large", large.pid, weight=0.75, cap_cores=1.0),
            CpuShare("worker-small", small.pid, weight=0.25, cap_cores=1.0),
        ]
    )
    await cpu_times(rivals, 0.5)  # until both have started, and the kernel has moved them

    of_large, of_small = await cpu_times(rivals, 2.0)

    assert 2.0 < of_large / of_small < 4.5, "three to one"


def pid_of(heartbeat: AgentHeartbeat, worker_id: str) -> int:
    (worker,) = [w for w in heartbeat.workers if w.worker_id == worker_id]
    assert worker.pid is not None
    return worker.pid


def nice_of(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)


async def test_an_agent_gives_its_ready_workers_their_weights(
    agent: RunningAgent, cluster: Cluster
) -> None:
    await cluster.desire(
        cluster.spec("worker-a", device_bytes=96 * MIB),
        cluster.spec("worker-b", device_bytes=32 * MIB),
    )
    await cluster.until_worker("worker-a", WorkerState.READY)
    await cluster.until_worker("worker-b", WorkerState.READY)
    if "by nice values" not in agent.log:
        pytest.skip("this agent has cgroups")
    large, small = (pid_of(cluster.heartbeats[-1], f"worker-{name}") for name in "ab")

    # round(log 3 / log 1.25) = 5
    await eventually(lambda: nice_of(small) == 5, what="the nice value of a third")
    assert nice_of(large) == 0


async def _keep_busy(cluster: Cluster) -> None:
    """One request after the other: it looks twice a second what it got, while it computes."""
    for number in count():
        request = request_for("worker-a", f"request-{number}", max_tokens=200)
        await eventually(partial(_is_accepted, cluster, request), what="a free slot")


async def _is_accepted(cluster: Cluster, request: Generate) -> bool:
    return await send(cluster, request) == "accepted"


@pytest.mark.usefixtures("agent")
async def test_a_worker_tells_what_it_got_of_what_it_wanted(cluster: Cluster) -> None:
    if not read_thread_times():
        pytest.skip("this kernel counts no thread's time")
    await cluster.desire(cluster.spec("worker-a"))
    await cluster.until_worker("worker-a", WorkerState.READY)
    busy = asyncio.create_task(_keep_busy(cluster))

    def has_computed(worker: WorkerObserved) -> bool:
        return worker.compute_share is not None and bool(worker.compute_demand)

    try:
        heartbeat = await cluster.until(lambda h: any(map(has_computed, h.workers)))
    finally:
        busy.cancel()

    (worker,) = heartbeat.workers
    assert 0 < (worker.compute_share or 0) <= 1
    assert 0 < (worker.compute_demand or 0) <= 1


def test_an_agent_that_cannot_cap_its_workers_does_not_start(
    tmp_path: Path, nats_server: RunningNats
) -> None:
    with suppress(CgroupUnavailable):
        own_cgroup(Path("/proc/self/cgroup").read_text(), ROOT)
        pytest.skip("caps may be had here")

    agent = RunningAgent(tmp_path, nats_server, HYDRA_COMPUTE_SHARES="caps")
    try:
        code = agent.process.wait(60)
    finally:
        agent.kill()

    assert code != 0
    assert "setting HYDRA_COMPUTE_SHARES is 'caps'; expected weights, or, for caps" in agent.log
