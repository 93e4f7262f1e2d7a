"""The stack with hollow nodes: real NATS, Postgres, object store, schedulers and gateways."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.controlplane import seeding
from benchmarks.controlplane.catalogue import UNITS_PER_MODEL, Catalogue
from benchmarks.controlplane.hollow_processes import running_nodes
from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.tap import Tap, listening
from benchmarks.controlplane.traffic import Asker
from deploy.bootstrap.names import DATABASE
from deploy.local.demo_model import ensure_demo_model
from deploy.local.nodes import equal_nodes
from deploy.local.options import StackOptions
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Client
from tests.support.waiting import eventually

KEEP_ALIVE_S = 60.0
TEMPLATE = "template"  # the model whose tokenizer all others have
_NUM_SCHEDULERS, _NUM_GATEWAYS = 2, 2
# Requests may wait for many others' starts.
_SERVICE_ENV = {
    "HYDRA_REQUEST_DEADLINE_S": "600",
    "HYDRA_MAX_QUEUED_REQUESTS": "20000",
    "HYDRA_GATEWAY_MAX_OPEN_REQUESTS": "4096",
    "HYDRA_LOG_LEVEL": "INFO",
}


@dataclass(frozen=True)
class Scene:
    stack: LocalStack
    num_nodes: int
    catalogue: Catalogue
    asker: Asker
    tap: Tap
    database: Any  # a connection of the administrator
    operator: Client

    @property
    def ports(self) -> list[int]:
        return [int(url.rpartition(":")[2]) for url in self.stack.gateway_urls]

    async def leader(self) -> str:
        """The name of the process that leads."""
        name: str = await self.database.fetchval("SELECT scheduler_id FROM leadership")
        return name

    async def epoch(self) -> int:
        epoch: int = await self.database.fetchval("SELECT epoch FROM leadership")
        return epoch

    async def until_heard(self, cached_units: int) -> None:
        """Every hollow node was heard, and the rows of its host cache are there. The first start of
        a state folder writes them all, which takes minutes."""
        num_models = min(self.catalogue.num_models, cached_units // UNITS_PER_MODEL)
        least = num_models * UNITS_PER_MODEL

        async def are_heard() -> bool:
            count: int = await self.database.fetchval(_NUM_HEARD, least)
            return count >= self.num_nodes

        await eventually(are_heard, timeout_s=_HEARD_TIMEOUT_S, poll_s=0.5, what="hollow nodes")


_HEARD_TIMEOUT_S = 1_800.0
_NUM_HEARD = """
SELECT count(*) FROM nodes
WHERE id LIKE 'hollow-%' AND agent_heard_at > now() - interval '15 seconds'
    AND fetcher_heard_at > now() - interval '15 seconds' AND num_cached_units >= $1
"""


async def prepare(plan: Plan, state: StateFolder) -> None:
    """Imports the template model on a real node, then fills in the catalogue. What an earlier run
    of the same state folder has done is not done again."""
    demo = await asyncio.to_thread(ensure_demo_model, StateFolder.from_environment().sources)
    options = StackOptions(
        state=state,
        nodes=equal_nodes(1, {"nic": "1G", "memory": "2Gi", "host_cache": "1Gi"}),
        import_roots=(demo.parent,),
        standby_runtimes=0,
    )
    async with LocalStack(options) as stack:
        client = Client(stack.gateway_url, stack.api_key)
        try:
            found = await client.http.get(f"/api/v1/models/{TEMPLATE}")
            if found.status_code == 404:
                await client.ready(TEMPLATE, str(demo))
        finally:
            await client.close()
        connection = await stack.servers.postgres.connect(DATABASE)
        try:
            files = await seeding.tokenizer_files(connection, TEMPLATE)
            await seeding.seed(connection, catalogue_of(plan), files, KEEP_ALIVE_S)
        finally:
            await connection.close()


def catalogue_of(plan: Plan) -> Catalogue:
    return Catalogue(plan.num_models, plan.num_large)


@asynccontextmanager
async def open_scene(plan: Plan, state: StateFolder, num_nodes: int) -> AsyncIterator[Scene]:
    """With all hollow nodes heard."""
    options = StackOptions(
        state=state,
        nodes=(),
        num_schedulers=_NUM_SCHEDULERS,
        num_gateways=_NUM_GATEWAYS,
        service_env=_SERVICE_ENV,
    )
    async with AsyncExitStack() as cleanup:
        stack = await cleanup.enter_async_context(LocalStack(options))
        database = await stack.servers.postgres.connect(DATABASE)
        cleanup.push_async_callback(database.close)
        operator = Client(stack.gateway_url, stack.api_key)
        cleanup.push_async_callback(operator.close)
        tap = await cleanup.enter_async_context(listening(stack.servers))
        catalogue = catalogue_of(plan)
        keys = {name: await _key(operator, name) for name in tenants(catalogue)}
        ports = [int(url.rpartition(":")[2]) for url in stack.gateway_urls]
        asker = Asker(ports, keys, catalogue)
        scene = Scene(stack, num_nodes, catalogue, asker, tap, database, operator)
        run_dir = state.path / "hollow"
        nodes = running_nodes(plan, num_nodes, stack.servers.connections, run_dir)
        await cleanup.enter_async_context(nodes)
        await scene.until_heard(plan.cached_units)
        yield scene


def tenants(catalogue: Catalogue) -> list[str]:
    return [catalogue.tenant(number) for number in range(catalogue.num_tenants)]


async def _key(operator: Client, tenant: str) -> str:
    body = {"name": "benchmark", "tenant": tenant}
    response = await operator.http.post("/api/v1/api-keys", json=body)
    assert response.status_code == 201, response.text
    key: str = response.json()["key"]
    return key
