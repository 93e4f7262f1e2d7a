"""A node is cut off from the bus and comes back.

Its workers go on computing all the while: nobody may listen to them, and they must end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nodes import NodeOptions
from deploy.local.options import StackOptions
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from libs.common.records.database import Database
from tests.acceptance.client import Client
from tests.acceptance.observing import known_agent_pids
from tests.acceptance.pipeline.driving.busproxy import BusProxy
from tests.acceptance.pipeline.driving.disturbed_streams import Models
from tests.acceptance.pipeline.driving.processes import is_there, processor_s
from tests.acceptance.pipeline.driving.record import Record
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NUM_NODES = 3
NUM_TOKENS = 1000
LOST_AFTER_S = 3  # instead of 10, for the short cut
OLD_WORKER_ENDS_S = 10.0


@dataclass(frozen=True)
class Cluster:
    stack: LocalStack
    proxy: BusProxy
    models: Models

    @asynccontextmanager
    async def cut(self, node_id: str, at_least_s: float) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + at_least_s
        self.proxy.cut(node_id)
        try:
            yield
            await asyncio.sleep(max(0.0, until_s - loop.time()))
        finally:
            self.proxy.heal(node_id)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(
    tmp_path_factory: pytest.TempPathFactory, sources: Path
) -> AsyncIterator[Cluster]:
    proxy = BusProxy(lambda: stack.servers.nats.options.port)
    variables = {
        "OMP_NUM_THREADS": "1",
        "HYDRA_NATS_URL": await proxy.open(),
        "HYDRA_NODE_STALE_S": "2",
        "HYDRA_NODE_LOST_S": str(LOST_AFTER_S),
    }
    stack = LocalStack(
        StackOptions(
            state=StateFolder(tmp_path_factory.mktemp("cut")),
            nodes=tuple(NodeOptions(f"node-{i}") for i in range(NUM_NODES)),
            import_roots=(sources,),
            service_env=variables,
        )
    )
    async with stack:
        client = Client(stack.gateway_url, stack.api_key)
        database = Database.open(stack.servers.database_settings("scheduler"))
        yield Cluster(stack, proxy, Models(client, stack, Record(database), sources / "cut"))
        await database.close()
        await client.close()
    await proxy.close()


@pytest.mark.parametrize(
    ("num_stages", "index", "cut_s"),
    [
        (1, 0, 2.0 * LOST_AFTER_S),
        pytest.param(3, 1, 2.0 * LOST_AFTER_S, marks=pytest.mark.long),
        pytest.param(1, 0, 20.0, marks=pytest.mark.long),
        pytest.param(3, 0, 20.0, marks=pytest.mark.long),
        pytest.param(3, 2, 20.0, marks=pytest.mark.long),
    ],
)
async def test_a_node_cut_off_is_replaced_and_nobody_listens_to_it_when_it_is_back(
    cluster: Cluster, num_stages: int, index: int, cut_s: float
) -> None:
    known_agent_pids(cluster.stack)
    model = await cluster.models.fresh(min_pipeline_size=num_stages, max_pipeline_size=num_stages)
    stream = model.stream("go", NUM_TOKENS)
    await stream.until_text()
    old = (await model.stages())[index]

    async with cluster.cut(old.node_id, cut_s):
        before, used_s = stream.answer.num_chunks, processor_s(old.process)
        await stream.until(lambda: stream.answer.num_chunks > before + 10, "the next worker")
        if num_stages == 1:
            assert processor_s(old.process) > used_s, "it does not know that it is cut off"

    await stream.is_exact()
    assert all(row.id != old.id for row in await model.stages())
    await eventually(lambda: not is_there(old.process), timeout_s=OLD_WORKER_ENDS_S, what="its end")
    await model.gone()
