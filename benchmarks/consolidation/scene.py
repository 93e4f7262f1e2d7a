"""A fresh stack on which a pipeline of the demo's model runs, and may become one worker."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.coldpath.readiness import TIMEOUT_S, until_at_rest, until_standbys
from benchmarks.coldpath.starts import REST_S, WARM_UP
from benchmarks.coldpath.variants import DEMO_MODEL
from deploy.local.nodes import equal_nodes
from deploy.local.options import StackOptions
from deploy.local.report.api import ApiClient
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.support.waiting import eventually

NUM_STAGES = 4
MAX_SLOTS, MAX_CONTEXT_TOKENS = 8, 1024
# The whole model with its KV cache takes 457 MB: one of them has room on a node, not two.
DEVICE_MEMORY = "700M"
KEEP_ALIVE_S = 600.0  # nothing that is measured goes meanwhile, and a consolidation pays
SCHEDULER, CONSOLIDATION = "scheduler-0", "HYDRA_CONSOLIDATION"
SWITCH_TIMEOUT_S = 240.0
_POLL_S = 0.05
_READ_TIMEOUT_S = 120.0

Json = dict[str, Any]
PIPELINE = {
    "min_pipeline_size": NUM_STAGES,
    "max_pipeline_size": NUM_STAGES,
    "full_memory_workers": 1,
    "max_slots": MAX_SLOTS,
    "max_context_tokens": MAX_CONTEXT_TOKENS,
    "keep_alive_s": KEEP_ALIVE_S,
}


@dataclass(frozen=True)
class SceneOptions:
    """`sources`: models that may be registered, by name. `memory`: of each node's device."""

    state: StateFolder
    sources: Mapping[str, Path]
    nic_bytes_per_s: int
    can_consolidate: bool
    num_standbys: int = 1  # of each node
    memory: str = DEVICE_MEMORY

    def as_stack(self) -> StackOptions:
        node = {
            "nic": self.nic_bytes_per_s,
            "memory": self.memory,
            "host_cache": "1Gi",
            "cores": 1,
        }
        return StackOptions(
            state=self.state,
            nodes=equal_nodes(NUM_STAGES, node),
            standby_runtimes=self.num_standbys,
            # Nodes are not avoided for what became of workers when an earlier call was broken off.
            service_env={
                "HYDRA_SUSPECT_S": "0.1",
                CONSOLIDATION: "on" if self.can_consolidate else "off",
            },
            import_roots=tuple({path.parent for path in self.sources.values()}),
        )


@dataclass(frozen=True)
class Scene:
    """`http` is connected to the stack's gateway."""

    options: SceneOptions
    stack: LocalStack
    api: ApiClient
    http: httpx.AsyncClient

    async def get(self, path: str) -> Any:
        return (await self.http.get(f"/api/v1/{path}")).raise_for_status().json()

    async def register(
        self, name: str, settings: Mapping[str, object], source: str | None = None
    ) -> None:
        """And wait until it is imported. `source`: whose weights it has, if not its own."""
        await self.api.ensure_model(name, self.options.sources[source or name], settings)
        async for _ in self.api.wait_imported(name, 10 * TIMEOUT_S):
            pass

    async def until_ready(self) -> None:
        """Nothing goes on, and every node has the standbys that it shall have."""
        await until_at_rest(self.api)
        await until_standbys(self.stack, NUM_STAGES * self.options.num_standbys)
        await asyncio.sleep(REST_S)

    async def endpoint(self, model: str) -> Json | None:
        """The only one that lives; None: there is none."""
        endpoints: list[Json] = await self.get("endpoints")
        found = [endpoint for endpoint in endpoints if endpoint["model"] == model]
        assert len(found) < 2, f"{len(found)} endpoints of {model}"
        return found[0] if found else None

    async def restart_scheduler(self, *, can_consolidate: bool) -> None:
        """With that setting. Returns when it is ready; then it has nodes to hear of."""
        process = self.stack.processes[SCHEDULER]
        setting = {CONSOLIDATION: "on" if can_consolidate else "off"}
        process.spec = replace(process.spec, env={**process.spec.env, **setting})
        self.stack.hold(SCHEDULER)
        self.stack.kill(SCHEDULER)
        await self.stack.start(SCHEDULER)

    async def until_state(self, model: str, state: str) -> Json:
        async def reached() -> Json | None:
            endpoint = await self.endpoint(model)
            return endpoint if endpoint is not None and endpoint["state"] == state else None

        found: Any = await eventually(
            reached, timeout_s=SWITCH_TIMEOUT_S, poll_s=_POLL_S, what=f"{model} {state}"
        )
        return found

    async def until_alone(self, model: str) -> str:
        """All its other workers are gone. Returns the node of the one that is left."""

        async def is_alone() -> str | None:
            workers = (await self.until_state(model, "STANDALONE"))["workers"]
            live = [worker for worker in workers if worker["ended_at"] is None]
            return live[0]["node_id"] if len(live) == 1 else None

        found: Any = await eventually(
            is_alone, timeout_s=TIMEOUT_S, poll_s=_POLL_S, what="the end of the other workers"
        )
        return found


@asynccontextmanager
async def open_scene(options: SceneOptions) -> AsyncIterator[Scene]:
    """Its host caches are empty but for the model that it was warmed up with."""
    async with (
        LocalStack(options.as_stack()) as stack,
        ApiClient(stack.gateway_url, stack.api_key) as api,
        httpx.AsyncClient(
            base_url=stack.gateway_url,
            headers={"Authorization": f"Bearer {stack.api_key}"},
            timeout=httpx.Timeout(_READ_TIMEOUT_S),
            trust_env=False,
        ) as http,
    ):
        await api.wait_nodes(NUM_STAGES, TIMEOUT_S)
        scene = Scene(options, stack, api, http)
        await scene.register(WARM_UP, {"keep_alive_s": 0.0, "max_context_tokens": 1024})
        async for _ in api.chat(WARM_UP, "hi", 4):
            pass
        await scene.register(DEMO_MODEL, PIPELINE)
        yield scene
