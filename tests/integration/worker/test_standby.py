"""Workers from standby processes, by a real agent: whatever dies, a start succeeds."""

import asyncio
import os
import signal
from pathlib import Path
from random import Random

import pytest

from deploy.local.processes.procfs import is_running
from deploy.local.processes.worker_processes import descendants
from libs.common.bus.messages import WorkerObserved
from libs.common.cause_words import words
from libs.common.states import WorkerState
from services.worker.frames.process_names import STANDBY, WORKER, ZYGOTE
from tests.integration.worker.agents import Cluster, RunningAgent, request_for, send
from tests.integration.worker.processes import expected_tokens
from tests.integration.worker.standbys import of, origin, standby_of
from tests.integration.worker.tiny import TinyModel
from tests.support.failures import require_same_tokens
from tests.support.processtable import started_for
from tests.support.waiting import eventually

NUM_STANDBYS = 1
PATIENT_S, IMPATIENT_S = 10.0, 0.5


@pytest.fixture
def bind_timeout_s() -> float:
    return PATIENT_S


@pytest.fixture
def agent_settings(bind_timeout_s: float) -> dict[str, str]:
    return {
        "HYDRA_STANDBY_RUNTIMES": str(NUM_STANDBYS),
        "HYDRA_STANDBY_BIND_TIMEOUT_S": str(bind_timeout_s),
    }


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def all_gone(pids: set[int]) -> None:
    def is_gone() -> bool:
        return not any(map(is_running, pids))

    await eventually(is_gone, timeout_s=10, poll_s=0.02, what=f"the end of {sorted(pids)}")


async def started(cluster: Cluster, worker_id: str) -> WorkerObserved:
    await cluster.desire(cluster.spec(worker_id))
    return await cluster.until_worker(worker_id, WorkerState.READY)


async def stopped(cluster: Cluster) -> None:
    await cluster.desire()
    await cluster.until(lambda h: not h.workers)


async def test_a_standby_becomes_the_worker_and_says_what_any_worker_says(
    agent: RunningAgent, cluster: Cluster, model: TinyModel, tmp_path: Path
) -> None:
    standby = await standby_of(agent, cluster)
    (zygote,) = of(agent, ZYGOTE)
    assert len(os.listdir(f"/proc/{zygote}/task")) == 1, "a fork copies one thread only"

    observed = await started(cluster, "worker-a")

    assert (observed.pid, origin(observed)) == (standby, "standby")
    await cluster.until(lambda h: h.num_standbys == 1)
    await send(cluster, request_for("worker-a"))
    tokens = [i for part in await cluster.until_ended("request-a") for i in part.ids]
    expected = expected_tokens(model, (3, 5, 7), tmp_path)
    require_same_tokens(tokens, expected[: len(tokens)])
    assert await standby_of(agent, cluster) != standby, "the pool is filled again"
    kill(standby)
    observed = await cluster.until_worker("worker-a", WorkerState.FAILED)
    assert observed.cause is not None and "SIGKILL" in words(observed.cause)


async def test_the_end_of_the_zygote_ends_neither_workers_nor_standbys(
    agent: RunningAgent, cluster: Cluster
) -> None:
    await standby_of(agent, cluster)
    first = await started(cluster, "worker-a")
    await standby_of(agent, cluster)
    (zygote,) = of(agent, ZYGOTE)

    kill(zygote)
    await all_gone({zygote})

    await cluster.desire(cluster.spec("worker-a"), cluster.spec("worker-b"))
    second = await cluster.until_worker("worker-b", WorkerState.READY)
    assert origin(second) == "standby"
    await send(cluster, request_for("worker-a"))
    assert sum(len(part.ids) for part in await cluster.until_ended("request-a")) == 20
    assert first.pid in of(agent, WORKER)
    await standby_of(agent, cluster)
    assert of(agent, ZYGOTE) not in (set(), {zygote})


@pytest.mark.parametrize("bind_timeout_s", [IMPATIENT_S])
async def test_a_standby_that_hangs_is_replaced_by_an_ordinary_start_in_time(
    agent: RunningAgent, cluster: Cluster
) -> None:
    standby = await standby_of(agent, cluster)
    os.kill(standby, signal.SIGSTOP)

    observed = await started(cluster, "worker-a")

    assert origin(observed) == "launched"
    assert observed.pid != standby
    await all_gone({standby})


@pytest.mark.parametrize(
    "num_rounds", [2, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_whenever_zygote_or_standby_is_killed_a_start_succeeds(
    agent: RunningAgent, cluster: Cluster, num_rounds: int
) -> None:
    random = Random(num_rounds)
    for number in range(num_rounds):
        standby = await standby_of(agent, cluster)
        victim = random.choice([standby, *of(agent, ZYGOTE)])
        delay_s = random.uniform(-0.01, 0.03)
        asyncio.get_running_loop().call_later(delay_s, kill, victim)

        await cluster.desire(cluster.spec(f"worker-{number}"))

        observed = await ready_or_failed(cluster, f"worker-{number}")
        if observed.pid == victim:  # it was a worker by then, and fails like any other
            await cluster.until_worker(f"worker-{number}", WorkerState.FAILED)
        else:
            assert observed.state is WorkerState.READY
        await stopped(cluster)


async def ready_or_failed(cluster: Cluster, worker_id: str) -> WorkerObserved:
    ends = (WorkerState.READY, WorkerState.FAILED)
    heartbeat = await cluster.until(
        lambda h: any(w.worker_id == worker_id and w.state in ends for w in h.workers)
    )
    return next(w for w in heartbeat.workers if w.worker_id == worker_id)


@pytest.mark.parametrize(
    "num_starts", [2, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_starts_from_standbys_leak_neither_descriptors_nor_processes(
    agent: RunningAgent, cluster: Cluster, num_starts: int
) -> None:
    async def round_trip(number: int) -> None:
        await standby_of(agent, cluster)
        assert origin(await started(cluster, f"worker-{number}")) == "standby"
        await stopped(cluster)
        await standby_of(agent, cluster)

    await round_trip(0)
    before = agent.num_descriptors(), len(descendants([agent.process.pid]))
    for number in range(1, num_starts + 1):
        await round_trip(number)

    assert (agent.num_descriptors(), len(descendants([agent.process.pid]))) == before


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
async def test_an_agent_takes_zygote_standbys_and_workers_with_it(
    agent: RunningAgent, cluster: Cluster, is_killed: bool
) -> None:
    await standby_of(agent, cluster)
    await started(cluster, "worker-a")
    await standby_of(agent, cluster)
    pids = set(descendants([agent.process.pid]))
    assert len(pids) == 3

    if is_killed:
        agent.kill()
    else:
        assert await asyncio.to_thread(agent.stop) == 0

    await all_gone(pids)


@pytest.mark.parametrize(
    "num_rounds", [1, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_an_agent_killed_while_its_pool_fills_leaves_no_process(
    agent: RunningAgent, cluster: Cluster, num_rounds: int
) -> None:
    random = Random(num_rounds)
    for _ in range(num_rounds):
        await eventually(lambda: started_for(agent.process.pid), what="the zygote")
        if random.random() < 0.5:  # while it forks, rather than while it imports
            await standby_of(agent, cluster)
            kill(*of(agent, STANDBY))
        await asyncio.sleep(random.uniform(0, 0.6))

        agent.kill()

        await eventually(lambda: not started_for(agent.process.pid), what="the end of all")
        agent.restart()
