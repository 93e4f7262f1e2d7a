"""The stack, the two tenants and their models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.local.demo_model import ensure_demo_model
from deploy.local.nodes import equal_nodes
from deploy.local.options import StackOptions
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Client
from tests.support.checkpoints import make_tiny_llama

# Each model's KV cache takes more than half of the only node: while the measured model serves, the
# other one waits for room.
NODE = {"nic": "1G", "memory": "4Gi", "host_cache": "512Mi", "cores": 1}
KV_CACHE_BYTES = 9 * 2**28
MEASURED, DISTURBING = "measured", "disturbing"  # tenants, and their models
MODEL_SEED = 1
CONTEXT_TOKENS = 131_072  # of the disturbing model: a prompt of 100 kB fits, a token per byte


@dataclass(frozen=True)
class Scene:
    stack: LocalStack
    port: int
    keys: dict[str, str]  # by tenant
    client: Client  # the operator's


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    """The measured model serves; of the other one nothing can start as long as it does."""
    with TemporaryDirectory() as folder:
        sources = Path(folder) / "sources"
        demo = await asyncio.to_thread(ensure_demo_model, StateFolder.from_environment().sources)
        (sources / MEASURED).mkdir(parents=True)
        (sources / MEASURED / demo.name).write_bytes(demo.read_bytes())
        make_tiny_llama(
            sources / DISTURBING / "tiny", seed=MODEL_SEED, max_context_tokens=CONTEXT_TOKENS
        )
        options = StackOptions(
            state=StateFolder(Path(folder) / "state"),
            nodes=equal_nodes(1, NODE),
            import_roots=(sources,),
            service_env={"HYDRA_REQUEST_DEADLINE_S": "7200"},
        )
        async with LocalStack(options) as stack:
            operator = Client(stack.gateway_url, stack.api_key)
            try:
                keys = {tenant: await _key(operator, tenant) for tenant in (MEASURED, DISTURBING)}
                await _register(stack, keys[MEASURED], MEASURED, sources / MEASURED / demo.name)
                await _register(stack, keys[DISTURBING], DISTURBING, sources / DISTURBING / "tiny")
                port = int(stack.gateway_url.rpartition(":")[2])
                yield Scene(stack, port, keys, operator)
            finally:
                await operator.close()


async def _key(operator: Client, tenant: str) -> str:
    body = {"name": "benchmark", "tenant": tenant}
    response = await operator.http.post("/api/v1/api-keys", json=body)
    assert response.status_code == 201, response.text
    key: str = response.json()["key"]
    return key


async def _register(stack: LocalStack, key: str, name: str, source: Path) -> None:
    client = Client(stack.gateway_url, key)
    try:
        settings = {"max_queue": 10_000, "max_slots": 8, "keep_alive_s": 3600}
        await client.ready(name, str(source), kv_cache_bytes=KV_CACHE_BYTES, **settings)
        if name == MEASURED:
            answer = await client.stream(name, "hi", max_tokens=2)
            assert answer.is_complete, answer
    finally:
        await client.close()
