"""The agent as it runs, led by a scheduler whose database was restored from an older state."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.network.nic_rate_limiter import NicRateLimiter
from libs.common.states import FinishReason, WorkerState
from tests.integration.worker.agents import Cluster, request_for, send
from tests.integration.worker.tiny import TinyModel, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble


@pytest.fixture
def folder(tmp_path: Path, model: TinyModel) -> Iterator[UnitFolder]:
    folder = UnitFolder(tmp_path / "units", model)
    folder.fill()
    NicRateLimiter.create(tmp_path / "nic.ledger", 0)
    with UnitServerDouble(tmp_path, folder):
        yield folder


@pytest.mark.parametrize("agent_settings", [{"HYDRA_MISSING_WORKER_S": "600"}], ids=["patient"])
@pytest.mark.usefixtures("agent")
async def test_a_worker_that_the_database_has_forgotten_serves_until_it_is_known_again(
    cluster: Cluster,
) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    before = await cluster.until_worker("worker-a", WorkerState.READY)
    await send(cluster, request_for("worker-a", max_tokens=100))

    forgotten = await cluster.desire(names=False)
    assert await send(cluster, request_for("worker-a", "request-b")) == "accepted"
    ends = [await cluster.until_ended(name) for name in ("request-a", "request-b")]
    known = await cluster.desire(cluster.spec("worker-a"))

    assert [parts[-1].finish for parts in ends] == 2 * [FinishReason.LENGTH]
    assert (forgotten.refused, known.refused) == (None, None)
    await cluster.until(lambda heartbeat: heartbeat.accepted_version == known.accepted_version)
    assert (await cluster.until_worker("worker-a", WorkerState.READY)).pid == before.pid


@pytest.mark.parametrize("agent_settings", [{"HYDRA_MISSING_WORKER_S": "0.5"}], ids=["hasty"])
@pytest.mark.usefixtures("agent")
async def test_a_worker_that_stays_forgotten_is_stopped(cluster: Cluster) -> None:
    await cluster.desire(cluster.spec("worker-a"))
    await cluster.until_worker("worker-a", WorkerState.READY)

    await cluster.desire(names=False)

    await cluster.until(lambda heartbeat: not heartbeat.workers)
