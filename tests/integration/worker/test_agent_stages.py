"""The agent as it runs, with two stages of one endpoint: introduced by desired states alone."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.cause_words import words
from libs.common.network.nic_rate_limiter import NicRateLimiter
from libs.common.states import FinishReason, WorkerState
from tests.integration.worker.agents import Cluster, request_for, send
from tests.integration.worker.pipelines import introduce, stages
from tests.integration.worker.tiny import TinyModel, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble
from tests.support.frozenthread import FrozenThread


@pytest.fixture
def folder(tmp_path: Path, model: TinyModel) -> Iterator[UnitFolder]:
    folder = UnitFolder(tmp_path / "units", model)
    folder.fill()
    NicRateLimiter.create(tmp_path / "nic.ledger", 0)
    with UnitServerDouble(tmp_path, folder):
        yield folder


@pytest.fixture
def agent_settings() -> dict[str, str]:
    return {"HYDRA_ENGINE_PATIENCE_S": "8"}


@pytest.mark.usefixtures("agent")
async def test_a_request_sent_with_the_launch_of_two_stages_is_answered(cluster: Cluster) -> None:
    specs = stages(cluster)
    await cluster.desire(*specs)
    assert await send(cluster, request_for("pipeline")) == "accepted"

    await introduce(cluster, specs)

    parts = await cluster.until_ended("request-a")
    assert [part.start_index for part in parts] == list(range(20))
    assert parts[-1].finish is FinishReason.LENGTH
    for spec in specs:
        observed = await cluster.until_worker(spec.worker_id, WorkerState.READY)
        names = {step.name for step in observed.steps if step.ended_at}
        assert {"spawn", "bind", "connect", "linked", "load", "ready"} <= names


@pytest.mark.usefixtures("agent")
async def test_a_killed_stage_takes_its_neighbour_along_and_both_say_why(cluster: Cluster) -> None:
    specs = stages(cluster)
    await cluster.desire(*specs)
    await introduce(cluster, specs)
    observed = await cluster.until_worker("stage-1", WorkerState.READY)
    await cluster.until_worker("stage-0", WorkerState.READY)
    await send(cluster, request_for("pipeline", max_tokens=200))
    assert observed.pid is not None

    os.kill(observed.pid, signal.SIGKILL)

    killed = await cluster.until_worker("stage-1", WorkerState.FAILED)
    lonely = await cluster.until_worker("stage-0", WorkerState.FAILED)
    assert killed.cause is not None and "SIGKILL" in words(killed.cause)
    assert lonely.cause is not None and "stage 0 lost its neighbour stage 1" in words(lonely.cause)


@pytest.mark.usefixtures("agent")
async def test_a_stage_whose_engine_hangs_is_ended_before_anybody_else_is_blamed(
    cluster: Cluster,
) -> None:
    specs = stages(cluster)
    await cluster.desire(*specs)
    await introduce(cluster, specs)
    observed = await cluster.until_worker("stage-1", WorkerState.READY)
    await cluster.until_worker("stage-0", WorkerState.READY)
    assert observed.pid is not None

    with FrozenThread(observed.pid):  # a process's first thread has its id, and owns the engine
        await send(cluster, request_for("pipeline"))
        hung = await cluster.until_worker("stage-1", WorkerState.FAILED)
    lonely = await cluster.until_worker("stage-0", WorkerState.FAILED)

    assert hung.cause is not None
    assert words(hung.cause).startswith("stage 1: the engine has not moved for 8 s")
    assert lonely.cause is not None and "stage 0 lost its neighbour stage 1" in words(lonely.cause)
