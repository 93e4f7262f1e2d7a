"""A cluster in miniature: real Postgres, a bus in memory, simulated nodes, real schedulers."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, text

from libs.common.bus.messages import ModelSummary, UnitSummary
from libs.common.clock import SystemClock
from libs.common.ids import new_id
from libs.common.records.database import Database
from libs.common.records.tables import ModelRow
from libs.common.settings import DatabaseSettings
from libs.common.startmode import StartMode
from libs.common.states import ModelState
from libs.common.testing.bus import MemoryBroker, MemoryBus, MemoryWorkQueue
from services.scheduler.bootstrap import build_controller
from services.scheduler.controller import Controller
from services.scheduler.health import Health
from services.scheduler.leadership.leadership import Candidate, Leadership
from services.scheduler.settings import Timing
from tests.integration.scheduler.simulated import SimulatedGateway, SimulatedNode
from tests.support.waiting import eventually

MIB = 2**20
WEIGHT_BYTES = 66 * MIB  # six units of 11 MiB
KV_BYTES = 16 * MIB
MODEL_BYTES = WEIGHT_BYTES + KV_BYTES

QUICK = Timing(
    reconcile_interval_s=0.05,
    lease_check_s=0.05,
    acquaintance_s=0.0,
    node_stale_s=0.5,
    node_lost_s=1.0,
    gateway_lost_s=1.0,
    unlisted_s=1.0,
    start_timeout_s=30.0,
    desired_timeout_s=0.2,
    echo_grace_s=0.3,
    routes_interval_s=0.5,
    progress_interval_s=0.2,
    import_silence_s=0.5,
    can_consolidate=False,  # a test about pipelines finds them as they were started
)


def digest(text_: str) -> str:
    return hashlib.sha256(text_.encode()).hexdigest()


def summary_of(name: str, *, num_layers: int = 4) -> ModelSummary:
    unit_bytes = WEIGHT_BYTES // (num_layers + 2)
    kinds = [("embedding", None), *(("layer", i) for i in range(num_layers)), ("final_norm", None)]
    units = tuple(
        UnitSummary.model_validate(
            {
                "kind": kind,
                "layer": layer,
                "digest": digest(f"{name} {kind} {layer}"),
                "size_bytes": unit_bytes,
            }
        )
        for kind, layer in kinds
    )
    return ModelSummary(
        architecture="LlamaForCausalLM",
        dtype="BF16",
        num_layers=num_layers,
        vocab_size=100,
        max_context_tokens=1024,
        kv_bytes_per_token=KV_BYTES // 1024,
        weight_bytes=WEIGHT_BYTES,
        eos_token_ids=(2,),
        units=units,
        tokenizer_files={},
    )


@dataclass
class Leader:
    """One scheduler that leads; `kill` is what SIGKILL leaves behind."""

    leadership: Leadership
    controller: Controller
    bus: MemoryBus
    task: asyncio.Task[None]

    async def kill(self) -> None:
        self.task.cancel()
        await self.bus.close()
        done, _ = await asyncio.wait({self.task}, timeout=10)
        assert done, "a cancelled leader must end"
        await self.leadership.release()


@dataclass
class World:
    settings: DatabaseSettings
    timing: Timing = QUICK
    mode: StartMode = StartMode.HYDRA
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    workqueue: MemoryWorkQueue = field(default_factory=MemoryWorkQueue)
    nodes: dict[str, SimulatedNode] = field(default_factory=dict)
    leaders: list[Leader] = field(default_factory=list)
    closed_rings: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.database = Database.open(self.settings, pool_size=3)
        self.gateway = SimulatedGateway("gateway-1", self.broker.bus())

    @property
    def leader(self) -> Leader:
        return self.leaders[-1]

    async def start_leader(self) -> Leader:
        candidate = Candidate(self.settings, f"scheduler-{len(self.leaders)}")

        try:
            leadership = await eventually(candidate.try_to_lead, what="leadership")
        finally:
            candidate.close()
        assert isinstance(leadership, Leadership)
        bus, clock = self.broker.bus(), SystemClock()
        controller = build_controller(
            self.database,
            leadership.epoch,
            bus,
            self.workqueue,
            clock,
            self.timing,
            Health(None, clock),
            self.mode,
        )
        leader = Leader(leadership, controller, bus, asyncio.create_task(controller.run()))
        self.leaders.append(leader)
        await eventually(lambda: controller.is_listening, what="the leader's subscriptions")
        return leader

    async def restart_leader(self) -> Leader:
        await self.leader.kill()
        return await self.start_leader()

    async def add_node(
        self, node_id: str, *, memory_bytes: int = 4 * MODEL_BYTES, **values: int
    ) -> SimulatedNode:
        """`values` as SimulatedNode takes them."""
        node = SimulatedNode(
            node_id,
            self.broker.bus(),
            memory_bytes=memory_bytes,
            closed_rings=self.closed_rings,
            **values,
        )
        self.nodes[node_id] = node
        await node.start()
        return node

    async def add_model(self, name: str = "tiny", **values: Any) -> str:
        """A READY model; `values` replace columns."""
        model_id, summary = new_id("model"), summary_of(name)
        manifest = digest(f"manifest {name}")
        row = {
            "id": model_id,
            "tenant": "tenant-1",
            "name": name,
            "source": f"/models/{name}",
            "state": ModelState.READY.value,
            "slo_ttft_ms": 5000,
            "slo_tpot_ms": 100,
            "keep_alive_s": 60.0,
            # As many as are allowed: these tests are about the pipeline that they name.
            "min_pipeline_size": values.get("max_pipeline_size", 1),
            "max_pipeline_size": 1,
            "max_queue": 100,
            "max_slots": 2,
            "max_endpoints": 1,
            "manifest_digest": manifest,
        }
        async with self.database.transaction() as session:
            await session.execute(
                text(
                    "INSERT INTO manifests (digest, summary) VALUES (:digest, CAST(:body AS jsonb))"
                    " ON CONFLICT DO NOTHING"
                ),
                {"digest": manifest, "body": summary.model_dump_json()},
            )
            await session.execute(insert(ModelRow).values({**row, **values}))
        return model_id

    async def rows(self, sql: str, **parameters: Any) -> list[Any]:
        async with self.database.transaction() as session:
            return list((await session.execute(text(sql), parameters)).all())

    async def value(self, sql: str, **parameters: Any) -> Any:
        rows = await self.rows(sql, **parameters)
        return rows[0][0] if rows else None

    async def execute(self, sql: str, **parameters: Any) -> None:
        async with self.database.transaction() as session:
            await session.execute(text(sql), parameters)

    async def start_endpoint(self, model_id: str, request_id: str = "request-1") -> str:
        """Submit one request and wait until its endpoint serves; the endpoint's id."""
        await self.gateway.submit(model_id, request_id=request_id)
        await self.assigned(request_id)
        endpoint_id = self.gateway.assigned[request_id].endpoint_id
        await self.until_state(endpoint_id, "STANDALONE")
        return endpoint_id

    async def assigned(self, request_id: str) -> str:
        """Wait until the gateway was told an endpoint; its id."""
        await eventually(
            lambda: request_id in self.gateway.assigned, what=f"the assignment of {request_id}"
        )
        return self.gateway.assigned[request_id].endpoint_id

    async def until_state(self, endpoint_id: str, *states: str) -> None:
        async def is_there() -> bool:
            return await self.endpoint_state(endpoint_id) in states

        await eventually(is_there, what=f"{endpoint_id} in {states}")

    async def endpoint_state(self, endpoint_id: str) -> str:
        return str(await self.value("SELECT state FROM endpoints WHERE id=:id", id=endpoint_id))

    async def until(self, sql: str, expected: object, **parameters: Any) -> None:
        async def is_so() -> bool:
            return bool(await self.value(sql, **parameters) == expected)

        await eventually(is_so, what=f"{sql} = {expected}")

    async def until_heard(self, num_nodes: int) -> None:
        """Of both services of each: what they offer is known."""
        heard = "agent_heard_at IS NOT NULL AND fetcher_heard_at IS NOT NULL"
        await self.until(f"SELECT count(*) FROM nodes WHERE {heard}", num_nodes)

    async def require_nothing_counted(self) -> None:
        """Against any request."""
        counts = "SELECT max(num_engine_crashes + num_node_losses) FROM requests"
        assert await self.value(counts) == 0

    async def require_uncounted(self, endpoint_id: str) -> None:
        """Its loss is reported, and why it was lost is not known."""
        kinds = await self.rows(
            "SELECT kind FROM request_losses WHERE endpoint_id = :id", id=endpoint_id
        )
        assert [row.kind for row in kinds] == [None]

    async def finish(self, request_id: str) -> None:
        """What a gateway does at a request's end."""
        await self.execute(
            "UPDATE requests SET state='ENDED', outcome='stop', ended_at=now() WHERE id=:id",
            id=request_id,
        )
        self.gateway.open_ids.discard(request_id)

    async def close(self) -> None:
        for leader in self.leaders:
            if not leader.task.done():
                await leader.kill()
        for node in self.nodes.values():
            await node.stop()
        await self.gateway.stop()
        for subscription in list(self.broker.subscriptions):
            await subscription.unsubscribe()
        await self.database.close()
