"""What a ready worker process has imported: torch, ZeroMQ, this project's engine, no more.

The processes run with a `sitecustomize` of this test's own that writes down sys.modules on a
signal; nothing in the product knows of it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.common.network.nic_rate_limiter import NicRateLimiter
from libs.common.states import WorkerState
from services.worker.frames.process_names import ZYGOTE
from tests.integration.servers import RunningNats
from tests.integration.worker.agents import Cluster, RunningAgent
from tests.integration.worker.pipelines import introduce, stages
from tests.integration.worker.standbys import of, origin
from tests.integration.worker.tiny import TinyModel, UnitFolder
from tests.integration.worker.unitservers import UnitServerDouble
from tests.support.waiting import eventually

NUM_STAGES = 2
OURS = {"services", "libs"}
# With which K and V are checked that come from other workers. A zygote loads it for its workers,
# of which many consolidate; a worker that is launched loads it when it does.
OF_MOVES = {"blake3"}
WITNESS = """
import json, os, pathlib, signal, sys

def tell(*_):
    told = pathlib.Path(__file__).parent / f"{os.getpid()}.json"
    told.with_suffix(".new").write_text(json.dumps(sorted(sys.modules)))
    told.with_suffix(".new").rename(told)

signal.signal(signal.SIGUSR1, tell)
"""
# Whatever torch or ZeroMQ may bring one day.
NEVER = (
    *("transformers", "tokenizers", "safetensors", "fastapi", "starlette", "uvicorn", "httpx"),
    *("sqlalchemy", "asyncpg", "alembic", "opentelemetry", "pydantic", "nats", "minio", "uvloop"),
    *("torch._dynamo", "torch._inductor"),
)


class Witnesses:
    """The folder in which processes write down their modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(WITNESS)

    async def modules_of(self, pid: int) -> set[str]:
        told = self.folder / f"{pid}.json"
        os.kill(pid, signal.SIGUSR1)
        await eventually(told.exists, timeout_s=20, poll_s=0.02, what="the process's answer")
        return set(json.loads(told.read_text()))

    def modules_after(self, *imports: str) -> set[str]:
        """Of a fresh interpreter that is started as a worker is."""
        code = f"import sys, json, {', '.join(imports)}; print(json.dumps(list(sys.modules)))"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=120
        )
        return set(json.loads(done.stdout))


@pytest.fixture
def witnesses(tmp_path: Path) -> Witnesses:
    return Witnesses(tmp_path / "witnesses")


@pytest.fixture
async def cluster(tmp_path: Path, nats_server: RunningNats) -> AsyncIterator[Cluster]:
    model = TinyModel()
    folder = UnitFolder(tmp_path / "units", model)
    folder.fill()
    NicRateLimiter.create(tmp_path / "nic.ledger", 0)
    cluster = await Cluster.open(nats_server, model)
    with UnitServerDouble(tmp_path, folder):
        yield cluster
    await cluster.close()


@pytest.mark.parametrize("num_standbys", [0, NUM_STAGES], ids=["launched", "standby"])
async def test_a_ready_worker_has_imported_torch_zeromq_and_its_engine_alone(
    tmp_path: Path,
    nats_server: RunningNats,
    cluster: Cluster,
    witnesses: Witnesses,
    num_standbys: int,
    request: pytest.FixtureRequest,
) -> None:
    expected = witnesses.modules_after("torch", "zmq")
    agent = RunningAgent(
        tmp_path,
        nats_server,
        PYTHONPATH=str(witnesses.folder),
        HYDRA_STANDBY_RUNTIMES=str(num_standbys),
        HYDRA_STANDBY_BIND_TIMEOUT_S="10",
    )
    permitted = OURS | (OF_MOVES if num_standbys else set())
    try:
        await cluster.until(lambda h: h.num_standbys == num_standbys)
        zygotes = of(agent, ZYGOTE)
        await cluster.desire(*stages(cluster))
        await introduce(cluster, stages(cluster))
        for spec in stages(cluster):
            observed = await cluster.until_worker(spec.worker_id, WorkerState.READY)
            assert origin(observed) == request.node.callspec.id
            assert observed.pid is not None
            loaded = await witnesses.modules_of(observed.pid)

            assert "torch" in loaded and "zmq" in loaded
            assert {name for name in NEVER if name in loaded} == set()
            assert packages(loaded) - packages(expected) <= permitted
            for zygote in zygotes:
                late = loaded - await witnesses.modules_of(zygote)
                assert late == set(), "the zygote imports all that its workers will"
    finally:
        agent.kill()


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
